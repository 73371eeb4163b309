//! States of workers and of connections, and the handles that lead to them.

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, poll_immediate};
use rpc_parallel::WorkerId;
use rpc_parallel::error::{
    CallErrorKind, ConnectErrorKind, ExitReason, MessageKind, SpawnErrorKind,
};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, ends};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;

/// Accounts of one bank, each of which is a connection.
#[rpc_parallel::worker]
trait Bank {
    /// Returns what the account and the bank hold then.
    async fn deposit(&self, cx: &Context<Account>, amount: u64) -> (u64, u64);
    fn owner(&self, cx: &Context<Account>) -> String;
    fn branch(&self) -> String;
    fn ids(&self, cx: &Context<Account>) -> (WorkerId, u32);
    /// Waits until so many accounts have been closed.
    async fn closed_accounts(&self, count: usize);
    /// Computes for so long, and waits for nothing.
    fn audit(&self, time: Duration);
}

/// Wants to know where it is.
struct Ledger {
    branch: String,
    total: Mutex<u64>,
    closed: watch::Sender<usize>,
}

/// A bank too, whose accounts begin with a bonus.
struct Vault(Ledger);

/// The same connection state for both.
struct Account {
    owner: String,
    balance: Mutex<u64>,
    closed: watch::Sender<usize>,
}

impl WorkerState for Ledger {
    type Init = String;

    async fn init(branch: String) -> Result<Self, BoxError> {
        if branch.is_empty() {
            return Err("a branch needs a name".into());
        }
        Ok(Self { branch, total: Mutex::default(), closed: watch::Sender::default() })
    }
}

impl WorkerState for Vault {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self(Ledger::init("the vault".into()).await?))
    }
}

impl Account {
    fn new(owner: String, balance: u64, ledger: &Ledger) -> Self {
        Self { owner, balance: Mutex::new(balance), closed: ledger.closed.clone() }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.closed.send_modify(|it| *it += 1);
    }
}

impl ConnectionState<Ledger> for Account {
    type Init = String;

    async fn init(ledger: &Ledger, owner: String) -> Result<Self, BoxError> {
        match owner.as_str() {
            "" => Err(format!("process {}: nobody", std::process::id()).into()),
            "panic" => panic!("no account for {owner}"),
            _ => Ok(Self::new(owner, 0, ledger)),
        }
    }
}

impl ConnectionState<Vault> for Account {
    type Init = (String, u64);

    async fn init(vault: &Vault, (owner, bonus): (String, u64)) -> Result<Self, BoxError> {
        Ok(Self::new(owner, bonus, &vault.0))
    }
}

#[rpc_parallel::worker]
impl Bank for Ledger {
    async fn deposit(&self, cx: &Context<Account>, amount: u64) -> (u64, u64) {
        let mut balance = cx.balance.lock().expect("nobody panics in here");
        let mut total = self.total.lock().expect("nobody panics in here");
        *balance += amount;
        *total += amount;
        (*balance, *total)
    }

    fn owner(&self, cx: &Context<Account>) -> String {
        cx.state().owner.clone()
    }

    fn branch(&self) -> String {
        self.branch.clone()
    }

    fn ids(&self, cx: &Context<Account>) -> (WorkerId, u32) {
        (cx.worker_id(), std::process::id())
    }

    async fn closed_accounts(&self, count: usize) {
        let mut closed = self.closed.subscribe();
        closed.wait_for(|it| *it >= count).await.expect("`self` holds the sender");
    }

    fn audit(&self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}

#[rpc_parallel::worker]
impl Bank for Vault {
    async fn deposit(&self, cx: &Context<Account>, amount: u64) -> (u64, u64) {
        self.0.deposit(cx, amount).await
    }

    fn owner(&self, cx: &Context<Account>) -> String {
        self.0.owner(cx)
    }

    fn branch(&self) -> String {
        self.0.branch()
    }

    fn ids(&self, cx: &Context<Account>) -> (WorkerId, u32) {
        self.0.ids(cx)
    }

    async fn closed_accounts(&self, count: usize) {
        self.0.closed_accounts(count).await;
    }

    fn audit(&self, time: Duration) {
        self.0.audit(time);
    }
}

/// Goes to banks for others.
#[rpc_parallel::worker]
trait Errands {
    async fn deposit(
        &self,
        bank: Worker<Ledger>,
        owner: &str,
        amount: u64,
    ) -> Result<(u64, u64), AnyError>;
    fn hand_back(&self, bank: Worker<Ledger>) -> Worker<Ledger>;
    async fn open_bank(&self, branch: String) -> Result<Worker<Ledger>, AnyError>;
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Messenger;

#[rpc_parallel::worker]
impl Errands for Messenger {
    async fn deposit(
        &self,
        bank: Worker<Ledger>,
        owner: &str,
        amount: u64,
    ) -> Result<(u64, u64), AnyError> {
        let account = bank.connect(owner.to_owned()).await?;
        Ok(account.deposit(amount).await?)
    }

    fn hand_back(&self, bank: Worker<Ledger>) -> Worker<Ledger> {
        bank
    }

    async fn open_bank(&self, branch: String) -> Result<Worker<Ledger>, AnyError> {
        Ok(Ledger::serve(branch).await?)
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

async fn start(branch: &str) -> Worker<Ledger> {
    Ledger::spawner().start(branch.into()).await.expect("start a worker")
}

async fn connect(bank: &Worker<Ledger>, owner: &str) -> BankClient {
    bank.connect(owner.into()).await.expect("connect to the worker")
}

async fn connect_error(bank: &Worker<Ledger>, owner: &str) -> ConnectErrorKind {
    let connected = timeout(PATIENCE, bank.connect(owner.into())).await;
    let connected = connected.expect("an answer of whatever kind");
    let error = connected.expect_err("there is nothing to connect to");
    let text = error.to_string();
    assert!(text.starts_with(&format!("connect to {bank}: ")), "{text}");
    copy(error.kind())
}

/// What these tests look at; the rest of the kinds cannot be copied.
fn copy(kind: &ConnectErrorKind) -> ConnectErrorKind {
    match kind {
        ConnectErrorKind::NoSuchWorker => ConnectErrorKind::NoSuchWorker,
        ConnectErrorKind::WorkerDied(failure) => ConnectErrorKind::WorkerDied(failure.clone()),
        ConnectErrorKind::Init { why } => ConnectErrorKind::Init { why: why.clone() },
        ConnectErrorKind::InitPanicked(panic) => ConnectErrorKind::InitPanicked(panic.clone()),
        other => panic!("{other}"),
    }
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("a pid is positive");
    kill_process(pid, Signal::KILL).expect("the process lives");
}

#[rpc_parallel::test]
async fn connections_share_the_state_of_the_worker_and_have_their_own() {
    let bank = start("north").await;
    let (ada, bob) = (connect(&bank, "ada").await, connect(&bank, "bob").await);

    assert_eq!(ada.deposit(5).await, Ok((5, 5)));
    assert_eq!(bob.deposit(2).await, Ok((2, 7)));
    assert_eq!(ada.deposit(1).await, Ok((6, 8)));
    assert_eq!(ada.owner().await, Ok("ada".into()));
    assert_eq!(bob.owner().await, Ok("bob".into()));
    assert_eq!(ada.branch().await, Ok("north".into()));
}

#[rpc_parallel::test]
async fn one_connection_state_serves_two_worker_types_with_different_arguments() {
    let ledger = Ledger::spawner().spawn_with("north".into(), "ada".into()).await;
    let vault = Vault::spawner().spawn_with((), ("bob".into(), 100)).await;

    let (ledger, vault) = (ledger.expect("start a worker"), vault.expect("start a worker"));
    assert_eq!(ledger.deposit(1).await, Ok((1, 1)));
    assert_eq!(vault.deposit(1).await, Ok((101, 1)));
    assert_eq!(vault.branch().await, Ok("the vault".into()));
}

#[rpc_parallel::test]
async fn the_state_of_a_connection_is_dropped_with_it() {
    let bank = start("north").await;
    let (ada, bob) = (connect(&bank, "ada").await, connect(&bank, "bob").await);

    drop(ada);

    assert_eq!(bob.closed_accounts(1).timeout(PATIENCE).await, Ok(()));
    assert_eq!(bob.deposit(1).await, Ok((1, 1)));
}

#[rpc_parallel::test]
async fn a_worker_takes_many_connections_one_after_the_other_and_at_once() {
    let bank = start("north").await;
    let mut accounts = Vec::new();

    for number in 0..50 {
        accounts.push(connect(&bank, &number.to_string()).await);
        // This one is closed at once.
        connect(&bank, "passing by").await;
    }

    for (number, account) in accounts.iter().enumerate() {
        assert_eq!(account.owner().await, Ok(number.to_string()));
    }
    assert_eq!(accounts[0].closed_accounts(50).timeout(PATIENCE).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_worker_that_computes_answers_its_other_connections_afterwards() {
    let bank = start("north").await;
    let (ada, bob) = (connect(&bank, "ada").await, connect(&bank, "bob").await);

    let computing = tokio::spawn(ada.audit(Duration::from_millis(300)));
    tokio::task::yield_now().await;
    let (bobs, eves) =
        tokio::join!(bob.deposit(1), async { connect(&bank, "eve").await.deposit(1).await });

    assert_eq!(computing.await.expect("no panic"), Ok(()));
    assert_eq!((bobs.map(|it| it.0), eves.map(|it| it.0)), (Ok(1), Ok(1)));
}

#[rpc_parallel::test]
fn a_started_worker_outlives_the_thread_and_the_runtime_that_started_it() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("make a runtime")
    };

    let starting = std::thread::spawn(move || {
        runtime().block_on(async {
            let bank = start("north").await;
            let deposited = connect(&bank, "ada").await.deposit(1).await;
            assert_eq!(deposited, Ok((1, 1)));
            bank
        })
    });
    let bank = starting.join().expect("no panic");

    let deposited = runtime().block_on(async { connect(&bank, "bob").await.deposit(1).await });
    assert_eq!(deposited, Ok((1, 2)));
}

#[rpc_parallel::test]
async fn a_client_knows_which_worker_it_talks_to() {
    let bank = Ledger::spawner().name("north-1").start("north".into()).await;
    let bank = bank.expect("start a worker");
    let account = connect(&bank, "ada").await;

    let (id, pid) = account.ids().await.expect("call it");

    assert_eq!((account.worker_id(), id), (bank.id(), bank.id()));
    assert_eq!(*account.label(), *bank.label());
    assert_eq!(bank.name(), Some("north-1"));
    let text = bank.to_string();
    assert!(text.contains("`north-1`") && text.contains(&format!("pid {pid} ")), "{text}");
    assert_eq!(id.to_string().parse(), Ok(id));
}

#[rpc_parallel::test]
async fn a_closed_client_says_so() {
    let bank = start("north").await;
    let account = connect(&bank, "ada").await;
    let waiting = account.closed_accounts(1);

    account.close();
    let reason = timeout(PATIENCE, account.closed()).await;

    assert_eq!(reason, Ok(CallErrorKind::ConnectionClosed));
    assert!(account.is_closed());
    let error = waiting.await.expect_err("the connection is closed");
    assert_eq!(*error.kind(), CallErrorKind::ConnectionClosed);
}

#[rpc_parallel::test]
async fn what_has_been_sent_before_a_close_is_still_done() {
    let bank = start("north").await;
    let (ada, bob) = (connect(&bank, "ada").await, connect(&bank, "bob").await);

    // Too large to be written in one go.
    let mut deposits = join_all((0..1000).map(|_| ada.deposit(1)));
    assert!(poll_immediate(&mut deposits).await.is_none(), "they have been sent, and no more");
    ada.close();
    bob.closed_accounts(1).timeout(PATIENCE).await.expect("call it");

    assert_eq!(bob.deposit(0).await, Ok((0, 1000)));
    drop(deposits);
}

#[rpc_parallel::test]
async fn handles_are_values_that_can_be_compared_ordered_and_hashed() {
    let (one, other) = (start("north").await, start("south").await);

    let set = HashSet::from([one.clone(), other.clone(), one.clone()]);
    let sorted = BTreeSet::from([one.clone(), other.clone(), other.clone()]);

    assert_eq!((set.len(), sorted.len()), (2, 2));
    assert_ne!(one, other);
    assert!(set.contains(&one) && sorted.contains(&other));
    assert_eq!(one.id().cmp(&other.id()), one.cmp(&other));
}

#[rpc_parallel::test]
async fn a_handle_leads_to_its_worker_from_another_worker() {
    let bank = start("north").await;
    let account = connect(&bank, "ada").await;
    let messenger = Messenger::spawn(()).await.expect("start a worker");

    assert_eq!(messenger.deposit(bank.clone(), "messenger", 3).await, Ok((3, 3)));
    assert_eq!(account.deposit(1).await, Ok((1, 4)));
    let back = messenger.hand_back(bank.clone()).await.expect("call it");
    assert_eq!((&back, back.label()), (&bank, bank.label()));
    assert_eq!(connect(&back, "ada again").await.deposit(1).await, Ok((1, 5)));
}

#[rpc_parallel::test]
async fn a_worker_can_serve_what_its_master_connects_to() {
    let messenger = Messenger::spawn(()).await.expect("start a worker");

    let bank = messenger.open_bank("in the messenger".into()).await.expect("open it");
    let account = connect(&bank, "ada").await;

    assert_eq!(account.branch().await, Ok("in the messenger".into()));
    assert_eq!(account.ids().await.map(|(_, pid)| pid), messenger.pid().await);
}

#[rpc_parallel::test]
async fn a_worker_connects_to_what_itself_serves() {
    let messenger = Messenger::spawn(()).await.expect("start a worker");

    let bank = messenger.open_bank("in the messenger".into()).await.expect("open it");
    let deposited = messenger.deposit(bank, "itself", 7).await;

    assert_eq!(deposited, Ok((7, 7)));
}

#[rpc_parallel::test]
async fn a_process_serves_many_workers_of_one_and_of_several_types() {
    let mut banks = Vec::new();
    for number in 0..10 {
        banks.push(Ledger::serve(number.to_string()).await.expect("serve it"));
    }
    let vault = Vault::serve(()).await.expect("serve it");

    let vault = vault.connect(("ada".into(), 10)).await.expect("connect to it");
    for (number, bank) in banks.iter().enumerate() {
        let account = connect(bank, "ada").await;
        assert_eq!(account.deposit(number as u64).await, Ok((number as u64, number as u64)));
        assert_eq!(account.branch().await, Ok(number.to_string()));
        assert_eq!(account.ids().await, Ok((bank.id(), std::process::id())));
    }
    assert_eq!(vault.deposit(1).await, Ok((11, 1)));
    assert_eq!(banks.iter().collect::<HashSet<_>>().len(), 10);
}

#[rpc_parallel::test]
async fn a_worker_reaches_what_its_master_serves() {
    let bank = Ledger::serve("at home".into()).await.expect("serve it");
    let messenger = Messenger::spawn(()).await.expect("start a worker");

    let deposited = messenger.deposit(bank.clone(), "messenger", 7).await;

    assert_eq!(deposited, Ok((7, 7)));
    assert_eq!(connect(&bank, "ada").await.deposit(1).await, Ok((1, 8)));
}

#[rpc_parallel::test]
fn a_served_worker_is_reached_as_long_as_the_runtime_that_serves_it() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("make a runtime")
    };
    let (first, second) = (runtime(), runtime());
    let serve = async |branch: &str| {
        let bank = Ledger::serve(branch.into()).await.expect("serve it");
        arrived::<Worker<Ledger>>(&travelling(&bank)).expect("it is still a handle")
    };
    first.block_on(serve("first"));

    let bank = second.block_on(serve("second"));
    drop(first);
    let deposited = second.block_on(async {
        let messenger = Messenger::spawn(()).await.expect("start a worker");
        messenger.deposit(bank, "messenger", 7).await
    });

    assert_eq!(deposited, Ok((7, 7)));
}

#[rpc_parallel::test]
async fn a_failing_init_of_a_served_worker_is_typed() {
    let error = Ledger::serve(String::new()).await.expect_err("it has no name");

    let SpawnErrorKind::Init { why } = error.kind() else { panic!("{error}") };
    assert_eq!(why, "a branch needs a name");
}

#[rpc_parallel::test]
async fn a_handle_of_a_dead_worker_leads_nowhere() {
    let bank = start("north").await;
    let (_, pid) = connect(&bank, "ada").await.ids().await.expect("call it");

    kill(pid);
    assert!(ends(pid).await, "it was killed");

    let error = connect_error(&bank, "ada").await;
    let ConnectErrorKind::WorkerDied(failure) = error else { panic!("{error}") };
    assert_eq!(failure.exit_reason(), ExitReason::Signaled { signal: 9, core_dumped: false });
}

#[rpc_parallel::test]
async fn a_handle_of_a_dead_worker_leads_nowhere_from_another_process_either() {
    let bank = start("north").await;
    let (_, pid) = connect(&bank, "ada").await.ids().await.expect("call it");
    let messenger = Messenger::spawn(()).await.expect("start a worker");
    let abroad = messenger.hand_back(bank).await.expect("call it");

    kill(pid);
    assert!(ends(pid).await, "it was killed");
    let deposited = messenger.deposit(abroad, "messenger", 1).timeout(PATIENCE).await;

    let Err(FunctionError::Function(error)) = deposited else { panic!("{deposited:?}") };
    assert!(error.to_string().contains("it has ended or closed its server"), "{error}");
}

#[rpc_parallel::test]
async fn a_handle_of_a_dead_worker_no_longer_travels() {
    let bank = start("north").await;
    let (_, pid) = connect(&bank, "ada").await.ids().await.expect("call it");
    let messenger = Messenger::spawn(()).await.expect("start a worker");

    kill(pid);
    assert!(ends(pid).await, "it was killed");
    while !matches!(connect_error(&bank, "ada").await, ConnectErrorKind::WorkerDied(_)) {}
    let deposited = messenger.deposit(bank, "messenger", 1).await;

    let Err(FunctionError::Call(error)) = deposited else { panic!("{deposited:?}") };
    let CallErrorKind::Unencodable { side: MessageKind::Arguments, why } = error.kind() else {
        panic!("{error}")
    };
    assert!(why.contains("has ended"), "{why}");
}

/// What travels of a handle, as text.
fn travelling(handle: &impl Serialize) -> String {
    serde_json::to_string(handle).expect("a handle can travel")
}

fn arrived<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

#[rpc_parallel::test]
async fn a_stale_handle_never_reaches_another_worker() {
    let (stale, other) = (start("north").await, start("south").await);
    let (_, pid) = connect(&stale, "ada").await.ids().await.expect("call it");
    let [stale_text, other_text] = [&stale, &other].map(travelling);
    kill(pid);
    assert!(ends(pid).await, "it was killed");

    // As if the address of the dead worker had been given to the other one.
    let misled = stale_text.replace(address(&stale_text), address(&other_text));
    let misled = arrived(&misled).expect("it is still a handle");

    assert_eq!(misled, stale);
    assert!(matches!(connect_error(&misled, "ada").await, ConnectErrorKind::WorkerDied(_)));
    let arrived = arrived::<Worker<Ledger>>(&other_text).expect("it is still a handle");
    assert_eq!(connect(&arrived, "ada").await.branch().await, Ok("south".into()));
}

/// Where a worker listens.
fn address(text: &str) -> &str {
    let (_, address) = text.split_once(r#""path":""#).expect("it has an address");
    address.split_once('"').expect("it has an end").0
}

#[rpc_parallel::test]
async fn a_worker_listens_where_only_its_user_comes() {
    let text = travelling(&start("north").await);

    let socket = Path::new(address(&text));
    let directory = socket.parent().expect("it is in a directory");

    // The kernel lets nobody else follow what stands in this directory.
    assert_eq!(directory, Path::new(&format!("/proc/{}/fd", std::process::id())));
    let socket = socket.metadata().expect("it is there");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 2)]
async fn a_stranger_who_talks_nonsense_ends_his_own_connection_only() {
    let bank = start("north").await;
    let account = connect(&bank, "ada").await;
    let text = travelling(&bank);

    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[0xff; 100], b"\x01\0\0\0\x04"] {
        let mut stranger = UnixStream::connect(address(&text)).expect("it listens");
        stranger.set_read_timeout(Some(PATIENCE)).expect("that is no zero");
        stranger.write_all(nonsense).expect("it reads");
        // It is told why, and no more.
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer).expect("it is ended in time");
    }

    assert_eq!(account.deposit(1).await, Ok((1, 1)));
    let bank = arrived::<Worker<Ledger>>(&text).expect("it is still a handle");
    assert_eq!(connect(&bank, "bob").await.deposit(1).await, Ok((1, 2)));
}

#[rpc_parallel::test]
async fn a_handle_is_none_of_another_worker_type() {
    let bank = start("north").await;

    let refused = arrived::<Worker<Vault>>(&travelling(&bank));

    let error = refused.expect_err("it is a `Ledger`").to_string();
    assert!(error.contains("::Ledger") && error.contains("is none of states::Vault"), "{error}");
}

#[rpc_parallel::test]
async fn a_closed_server_goes_on_with_its_connections_and_ends_with_the_last() {
    let bank = start("north").await;
    let (ada, bob) = (connect(&bank, "ada").await, connect(&bank, "bob").await);
    let (_, pid) = ada.ids().await.expect("call it");

    ada.close_server().await.expect("call it");

    assert!(matches!(connect_error(&bank, "eve").await, ConnectErrorKind::NoSuchWorker));
    drop(ada);
    assert_eq!(bob.closed_accounts(1).timeout(PATIENCE).await, Ok(()));
    assert_eq!(bob.deposit(1).await, Ok((1, 1)));
    drop(bob);
    assert!(ends(pid).await, "nobody can reach it any more");
}

#[rpc_parallel::test]
async fn a_closed_server_in_this_process_takes_no_new_connections() {
    let bank = Ledger::serve("at home".into()).await.expect("serve it");
    let account = connect(&bank, "ada").await;

    account.close_server().await.expect("call it");

    assert!(matches!(connect_error(&bank, "eve").await, ConnectErrorKind::NoSuchWorker));
    assert_eq!(account.deposit(1).await, Ok((1, 1)));
}

#[rpc_parallel::test]
async fn a_failing_init_of_a_connection_leaves_the_worker_to_others() {
    let bank = start("north").await;

    let failed = connect_error(&bank, "").await;
    let panicked = connect_error(&bank, "panic").await;

    assert!(matches!(&failed, ConnectErrorKind::Init { why } if why.ends_with(": nobody")));
    let ConnectErrorKind::InitPanicked(panic) = panicked else { panic!("{panicked}") };
    assert_eq!(panic.message, "no account for panic");
    assert!(panic.location.is_some_and(|it| it.contains("states.rs:")));
    assert_eq!(connect(&bank, "ada").await.deposit(1).await, Ok((1, 1)));
}

#[rpc_parallel::test]
async fn a_failing_init_of_the_first_connection_ends_a_spawned_worker() {
    let spawned = Ledger::spawner().spawn_with("north".into(), String::new()).await;

    let error = spawned.expect_err("the account belongs to nobody");
    let SpawnErrorKind::Connect(ConnectErrorKind::Init { why }) = error.kind() else {
        panic!("{error}")
    };
    let pid = why.split([' ', ':']).find_map(|it| it.parse().ok());
    assert!(ends(pid.expect("the text holds the pid")).await, "it lives with its connection");
}

#[rpc_parallel::test]
async fn a_panicking_init_of_the_first_connection_says_where() {
    let spawned = Ledger::spawner().spawn_with("north".into(), "panic".into()).await;

    let error = spawned.expect_err("it panics");
    let SpawnErrorKind::Connect(ConnectErrorKind::InitPanicked(panic)) = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(panic.message, "no account for panic");
    assert!(error.to_string().contains("states.rs:"), "{error}");
}
