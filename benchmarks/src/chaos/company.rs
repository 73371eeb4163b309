//! A master and its workers: what it does with each of them, and what it demands of their ends.

use std::collections::BTreeMap;
use std::future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use rpc_parallel::prelude::*;
use rpc_parallel::WorkerFailure;
use rpc_parallel::error::{CallErrorKind, ExitReason, PipeErrorKind};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::patience::{Patience, within};
use super::plan::{Branch, Ending, Lives, Point, Task};
use super::resources::Resources;
use super::signal::{self, State};
use super::word::{Kind, Said, tell, tell_wrong};
use super::worker::{Body, HandClient, Life};
use super::{CALL_BOUND, GONE_BOUND, LIVENESS_BOUND, START_BOUND};

const POLL: Duration = Duration::from_millis(2);
const LARGE: usize = 1024 * 1024;

/// A master and its workers.
pub(super) struct Company {
    name: String,
    before: Resources,
    ending: watch::Sender<bool>,
    careers: JoinSet<Option<HandClient>>,
    /// What keeps workers alive that are not to be ended here.
    left: Vec<HandClient>,
    /// Whether workers are left, and others whose output passes through this process.
    leaves: (bool, bool),
}

/// What the careers of a company have in common.
#[derive(Clone)]
struct Office {
    ending: watch::Receiver<bool>,
    handles: Arc<Mutex<BTreeMap<String, Worker<Body>>>>,
}

impl Company {
    /// Begins to start workers, each when it is its time.
    pub(super) async fn open(branches: Vec<Branch>, name: String) -> Self {
        // With the first word and the first worker comes what is there once for all.
        tell(Said::Master { name: name.clone() });
        if let Ok(first) = Body::spawn(Life::default()).await {
            let _ = first.shutdown().await;
        }
        let before = Resources::now();
        let (ending, office) = watch::channel(false);
        let office = Office { ending: office, handles: Arc::default() };
        let leaves_some = branches.iter().any(|it| it.ending == Ending::Leave);
        let leaves = (leaves_some, branches.iter().any(Branch::has_detached));
        let mut careers = JoinSet::new();
        for branch in branches {
            let career = Career { branch, office: office.clone(), failures: Arc::default() };
            careers.spawn(career.run());
        }
        Self { name, before, ending, careers, left: Vec::new(), leaves }
    }

    /// Ends the workers, and tells what is wrong with that.
    pub(super) async fn close(&mut self) {
        self.ending.send_replace(true);
        while let Some(career) = self.careers.join_next().await {
            match career {
                Ok(left) => self.left.extend(left),
                Err(error) => tell_wrong(Kind::Lost, format!("a master's task: {error}")),
            }
        }
        let (leaves_some, has_detached) = self.leaves;
        if leaves_some {
            return;
        }
        // Others connect to a worker whenever they like.
        let descriptors = self.name.is_empty() && !has_detached;
        if let Some(surplus) = self.before.settled(GONE_BOUND, descriptors).await {
            tell_wrong(Kind::LeftOver, format!("master `{}` still holds {surplus}", self.name));
        }
    }
}

/// What a master does with one worker, from its start to its end.
struct Career {
    branch: Branch,
    office: Office,
    failures: Arc<Mutex<Vec<WorkerFailure>>>,
}

/// A worker that has started.
struct Hired {
    pid: u32,
    client: HandClient,
    worker: Option<Worker<Body>>,
}

/// How a piece of work ended that a worker had to do.
enum Ended {
    Well,
    /// The worker died, and of this.
    Died(ExitReason),
    Wrong(String),
}

impl Career {
    /// Returns what keeps the worker alive, if it is not to be ended.
    async fn run(mut self) -> Option<HandClient> {
        let left = self.work().await;
        if left.is_none() {
            self.check_failures().await;
        }
        left
    }

    async fn work(&mut self) -> Option<HandClient> {
        sleep(self.branch.after).await;
        self.reach(Point::Starting);
        let hired = match within(START_BOUND, self.start()).await {
            Ok(Ok(hired)) => hired,
            Ok(Err(how)) => {
                self.tell_death(how);
                return None;
            }
            Err(_) => {
                self.wrong(Kind::Hung, format!("its start takes more than {START_BOUND:?}"));
                return None;
            }
        };
        self.reach(Point::Started);
        if let Some(worker) = &hired.worker {
            self.office.handles().insert(self.branch.name.clone(), worker.clone());
        }
        if !self.branch.branches.is_empty() {
            // If it fails the worker is dead, which is noticed below.
            let _ = hired.client.employ(self.branch.branches.clone()).await;
        }
        let (finish, finished) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for task in &self.branch.tasks {
            let work = perform(*task, hired.client.clone(), self.office.clone(), finished.clone());
            let task = *task;
            tasks.spawn(async move { (task, work.await) });
        }
        until_true(&mut self.office.ending.clone()).await;

        let alive = self.alive(hired.pid).await;
        if alive && !self.branch.branches.is_empty() {
            self.dismiss(&hired).await;
        }
        // The calls of a worker that is dead end without being told to.
        if alive {
            finish.send_replace(true);
        }
        self.join(tasks, hired.pid).await;
        drop(finish);
        if !alive {
            return None;
        }
        self.end(hired).await
    }

    async fn start(&self) -> Result<Hired, String> {
        let Branch { name, init, shutdown, suicide, lives, .. } = &self.branch;
        let (init, shutdown, suicide) = (Some(*init), *shutdown, *suicide);
        let life = Life { name: name.clone(), init, shutdown, suicide };
        let failures = self.failures.clone();
        let spawner = Body::spawner()
            .name(name)
            .connect_timeout(START_BOUND / 2)
            .spawn_timeout(START_BOUND / 2)
            .on_failure(move |it| lock(&failures).push(it));
        let pid =
            |pid: Option<u32>| pid.ok_or_else(|| "a worker of this host has no pid".to_owned());
        let worker = match lives {
            Lives::WithClient => {
                let client = spawner.spawn(life).await.map_err(|it| it.to_string())?;
                let pid = pid(client.label().pid())?;
                return Ok(Hired { pid, client, worker: None });
            }
            Lives::WithMaster => spawner.start(life).await.map_err(|it| it.to_string())?,
            Lives::Detached => {
                let worker = spawner.start_detached(life).await.map_err(|it| it.to_string())?;
                let handle = serde_json::to_string(&worker).map_err(|it| it.to_string())?;
                tell(Said::Detached {
                    name: name.clone(),
                    pid: pid(worker.label().pid())?,
                    handle,
                });
                worker
            }
        };
        let pid = pid(worker.label().pid())?;
        match worker.connect(()).await {
            Ok(client) => Ok(Hired { pid, client, worker: Some(worker) }),
            Err(error) => {
                self.alive(pid).await;
                // It was there, so its death is a failure, which stands in what follows.
                self.expect_failure().await;
                Err(error.to_string())
            }
        }
    }

    /// Says whether the worker lives, once that is certain.
    async fn alive(&self, pid: u32) -> bool {
        let mut patience = Patience::of(LIVENESS_BOUND);
        loop {
            match signal::state(pid) {
                State::Runs => return true,
                State::Gone => break,
                State::Stopped if patience.wait().await => {}
                State::Stopped => {
                    self.wrong(Kind::Hung, format!("stopped, and not ended in {LIVENESS_BOUND:?}"));
                    return true;
                }
            }
        }
        self.expect_failure().await;
        false
    }

    /// Waits until it is told that the worker has failed.
    async fn expect_failure(&self) {
        let mut patience = Patience::of(CALL_BOUND);
        while lock(&self.failures).is_empty() {
            if !patience.wait().await {
                return self.wrong(Kind::Lost, format!("dead, and not told in {CALL_BOUND:?}"));
            }
        }
    }

    async fn dismiss(&self, hired: &Hired) {
        // It waits for its own workers, who wait for theirs.
        let bound = 4 * (CALL_BOUND + LIVENESS_BOUND + GONE_BOUND);
        match within(bound, hired.client.dismiss()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if self.alive(hired.pid).await {
                    self.wrong(Kind::Lost, format!("alive, but {error}"));
                }
            }
            Err(_) => self.wrong(Kind::Hung, format!("not done with its workers in {bound:?}")),
        }
    }

    /// Demands that everything that the worker does ends, and for the right reason.
    async fn join(&self, mut tasks: JoinSet<(Task, Ended)>, pid: u32) {
        let mut all_ended = Vec::new();
        let joined = within(CALL_BOUND, async {
            while let Some(ended) = tasks.join_next().await {
                all_ended.push(ended);
            }
        });
        if joined.await.is_err() {
            let left = tasks.len();
            let ended: Vec<_> = all_ended.iter().flatten().map(|(task, _)| task).collect();
            let what = format!("{left} not ended in {CALL_BOUND:?}, those that have are {ended:?}");
            self.wrong(Kind::Hung, what);
        }
        for ended in all_ended {
            match ended {
                Ok((_, Ended::Well)) => {}
                Ok((task, Ended::Died(exit_reason))) => {
                    // It may have died after it was looked at.
                    self.alive(pid).await;
                    let told = lock(&self.failures).first().map(WorkerFailure::exit_reason);
                    if told != Some(exit_reason) {
                        let what = format!("{task:?} ended by {death:?}, told was {told:?}");
                        self.wrong(Kind::Lost, what);
                    }
                }
                Ok((task, Ended::Wrong(what))) => {
                    self.wrong(Kind::Lost, format!("{task:?}: {what}"));
                }
                Err(error) => self.wrong(Kind::Lost, format!("its master's task: {error}")),
            }
        }
    }

    /// Ends the worker as it shall be ended; returns what keeps it alive, if it shall not be.
    async fn end(&self, hired: Hired) -> Option<HandClient> {
        let Hired { pid, client, worker } = hired;
        self.reach(Point::Ending);
        match self.branch.ending {
            Ending::Leave => return Some(client),
            Ending::Drop => drop(client),
            Ending::CloseServer => {
                match within(CALL_BOUND, client.close_server()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        if self.alive(pid).await {
                            self.wrong(Kind::Lost, format!("alive, but {error}"));
                        }
                    }
                    Err(_) => {
                        self.wrong(Kind::Hung, format!("server not closed in {CALL_BOUND:?}"));
                    }
                }
                drop(client);
            }
            Ending::ShutDown => {
                let shutdown = match &worker {
                    Some(worker) => worker.shutdown(),
                    None => client.shutdown(),
                };
                match within(LIVENESS_BOUND, shutdown.timeout(CALL_BOUND / 2)).await {
                    Ok(_) if signal::state(pid) == State::Gone => {}
                    Ok(ended) => {
                        let what =
                            format!("{}, but shutdown says {ended:?}", signal::describe(pid));
                        self.wrong(Kind::Lost, what);
                    }
                    Err(_) => {
                        self.wrong(Kind::Hung, format!("not shut down in {LIVENESS_BOUND:?}"));
                    }
                }
                drop(client);
            }
        }
        let bound = match self.branch.ending {
            // It ends with its last connection, which somebody may have who waits for a stopped one.
            Ending::CloseServer => LIVENESS_BOUND,
            Ending::Leave | Ending::Drop | Ending::ShutDown => GONE_BOUND,
        };
        let mut patience = Patience::of(bound);
        while signal::state(pid) != State::Gone {
            if !patience.wait().await {
                let what = format!("{} lives {bound:?} after its end", signal::describe(pid));
                self.wrong(Kind::LeftOver, what);
                break;
            }
        }
        None
    }

    /// Demands that a failure is told at most once; that it is told at all was waited for.
    async fn check_failures(&self) {
        let told = lock(&self.failures).clone();
        if told.len() > 1 {
            self.wrong(Kind::Lost, format!("told {} times: {told:?}", told.len()));
        }
        for failure in told {
            self.tell_death(failure.to_string());
        }
    }

    fn reach(&self, point: Point) {
        tell(Said::Reached { name: self.branch.name.clone(), point });
    }

    fn tell_death(&self, how: String) {
        tell(Said::Death { name: self.branch.name.clone(), how });
    }

    fn wrong(&self, kind: Kind, what: String) {
        tell_wrong(kind, format!("{}: {what}", self.branch.name));
    }
}

impl Office {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<String, Worker<Body>>> {
        lock(&self.handles)
    }

    /// Returns a worker that can be visited, when there is one; none if it is too late for that.
    async fn somebody(&self) -> Option<Worker<Body>> {
        while !*self.ending.borrow() {
            if let Some(worker) = self.handles().values().next() {
                return Some(worker.clone());
            }
            sleep(POLL).await;
        }
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding this lock")
}

/// Waits until something is true that stays so.
async fn until_true(watched: &mut watch::Receiver<bool>) {
    if watched.wait_for(|it| *it).await.is_err() {
        // Whoever would say so is gone, and so it will not be said.
        future::pending::<()>().await;
    }
}

/// Waits for something, unless it is to be finished before.
async fn unless<T>(
    finished: &mut watch::Receiver<bool>,
    future: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(until_true(finished)), pin!(future)).await {
        Either::Left(_) => None,
        Either::Right((output, _)) => Some(output),
    }
}

/// Has a worker do something until that is to be finished.
async fn perform(
    task: Task,
    client: HandClient,
    office: Office,
    mut finished: watch::Receiver<bool>,
) -> Ended {
    match task {
        Task::Call => call(&client, Bytes::from_static(b"hello"), &finished).await,
        Task::CallLarge => call(&client, Bytes::from(vec![7; LARGE]), &finished).await,
        Task::Compute => {
            while !*finished.borrow() {
                if let Err(error) = client.block(Duration::from_millis(3)).await {
                    return Ended::of_call(&error);
                }
                sleep(POLL).await;
            }
            Ended::Well
        }
        Task::Hold => match unless(&mut finished, client.hold()).await {
            None => Ended::Well,
            Some(Ok(())) => Ended::Wrong("a call without an end has ended".to_owned()),
            Some(Err(error)) => Ended::of_call(&error),
        },
        Task::Block => {
            let for_ever = Duration::from_secs(3600);
            match unless(&mut finished, client.block(for_ever)).await {
                None => Ended::Well,
                Some(Ok(())) => Ended::Wrong("a call without an end has ended".to_owned()),
                Some(Err(error)) => Ended::of_call(&error),
            }
        }
        Task::Read => read(&client, &mut finished).await,
        Task::Write => write(&client, &finished).await,
        Task::Visit => {
            let Some(somebody) = office.somebody().await else { return Ended::Well };
            visit(&client, somebody, &mut finished).await
        }
        Task::CallBack => {
            let served = match Body::serve(Life::default()).await {
                Ok(served) => served,
                Err(error) => return Ended::Wrong(error.to_string()),
            };
            let ended = visit(&client, served.clone(), &mut finished).await;
            let closed = async {
                let client = served.connect(()).await.map_err(|it| it.to_string())?;
                client.close_server().await.map_err(|it| it.to_string())
            };
            match closed.await {
                Ok(()) => ended,
                Err(why) => Ended::Wrong(format!("close a server of this process: {why}")),
            }
        }
    }
}

async fn call(client: &HandClient, bytes: Bytes, finished: &watch::Receiver<bool>) -> Ended {
    while !*finished.borrow() {
        match client.echo(bytes.clone()).await {
            Ok(answer) if answer == bytes => {}
            Ok(answer) => return Ended::Wrong(format!("{} other bytes came back", answer.len())),
            Err(error) => return Ended::of_call(&error),
        }
        // Workers are many and cores are few.
        sleep(POLL).await;
    }
    Ended::Well
}

async fn read(client: &HandClient, finished: &mut watch::Receiver<bool>) -> Ended {
    let mut numbers = match client.numbers().await {
        Ok(numbers) => numbers,
        Err(error) => return Ended::of_call(&error),
    };
    let mut expected = 0;
    loop {
        match unless(finished, numbers.next()).await {
            None => return Ended::Well,
            Some(Some(Ok(number))) if number == expected => expected += 1,
            Some(Some(Ok(number))) => {
                return Ended::Wrong(format!("{number} came instead of {expected}"));
            }
            Some(Some(Err(error))) => return Ended::of_pipe(&error),
            Some(None) => return Ended::Wrong("a pipe without an end has ended well".to_owned()),
        }
        // It is about ends, and not about speed.
        if expected % 64 == 0 {
            sleep(POLL).await;
        }
    }
}

async fn write(client: &HandClient, finished: &watch::Receiver<bool>) -> Ended {
    let (writer, numbers) = Pipe::pair();
    let mut finished = finished.clone();
    let writing = tokio::spawn(async move {
        let mut sum = 0;
        for number in 0_u64.. {
            match unless(&mut finished, writer.send(number)).await {
                Some(Ok(())) => sum += number,
                // Where the worker is dead, its call tells it.
                Some(Err(_)) => break,
                // An element that was cut off may have been sent, or not.
                None => return (sum, Some(number)),
            }
            if number % 64 == 0 {
                sleep(POLL).await;
            }
        }
        (sum, None)
    });
    let sum = match client.sum(numbers).await {
        Ok(sum) => sum,
        Err(error) => {
            writing.abort();
            return match error {
                FunctionError::Call(error) => Ended::of_call(&error),
                FunctionError::Function(error) => Ended::of_pipe(&error),
            };
        }
    };
    match writing.await {
        Ok((sent, last)) if sum == sent || Some(sum) == last.map(|it| sent + it) => Ended::Well,
        Ok((sent, _)) => Ended::Wrong(format!("{sent} was sent, {sum} has come")),
        Err(error) => Ended::Wrong(error.to_string()),
    }
}

async fn visit(
    client: &HandClient,
    whom: Worker<Body>,
    finished: &mut watch::Receiver<bool>,
) -> Ended {
    match unless(finished, client.visit(whom)).await {
        None => Ended::Well,
        Some(Ok(())) => Ended::Wrong("a visit without an end has ended".to_owned()),
        // The one that was visited may have died, or closed.
        Some(Err(FunctionError::Function(_))) => Ended::Well,
        Some(Err(FunctionError::Call(error))) => Ended::of_call(&error),
    }
}

impl Ended {
    fn of_call(error: &CallError) -> Self {
        match error.kind() {
            CallErrorKind::WorkerDied(failure) => Self::Died(failure.exit_reason()),
            // A handle that was sent may lead to nobody any more.
            CallErrorKind::Unencodable { .. } => Self::Well,
            _ => Self::Wrong(error.to_string()),
        }
    }

    fn of_pipe(error: &PipeError) -> Self {
        match error.kind() {
            PipeErrorKind::WorkerDied(failure) => Self::Died(failure.exit_reason()),
            _ => Self::Wrong(error.to_string()),
        }
    }
}
