//! One round, as the driver sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context;
use rpc_parallel::Worker;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::plan::{Blow, Lives, Moment, Plan, Point, Strike, Whom};
use super::signal::{self, State, Target};
use super::word::{self, Kind, MARK, Problem, Said, Word};
use super::worker::Body;
use super::{GONE_BOUND, LIVENESS_BOUND, ROUND_BOUND};
use crate::role::Role;

const POLL: Duration = Duration::from_millis(2);
/// How long a process stays stopped that has no master any more.
const ALONE: Duration = Duration::from_millis(80);

/// What came of a round.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) kills: u64,
    /// Sockets that stand where a process was killed while it made a listener.
    pub(super) files: u64,
    pub(super) problems: Vec<Problem>,
    /// What happened, for people.
    pub(super) story: String,
}

/// All that can happen in a round; nothing else wakes the driver.
enum Event {
    Told(Word),
    MasterEnded(std::io::Result<ExitStatus>),
    /// It is time for one of the planned strikes.
    Strike(usize),
    WindowOver,
    TooLong,
}

/// A round that is played.
struct Round {
    directory: PathBuf,
    plan: Plan,
    begin: Instant,
    events: UnboundedSender<Event>,
    heard: UnboundedReceiver<Event>,
    tasks: JoinSet<()>,
    master: u32,
    master_socket: Option<UnixStream>,
    /// Which strikes have not been carried out, and may be.
    due: Vec<bool>,
    closing: bool,
    window_over: bool,
    /// The first master was stopped, and nobody will continue it.
    master_stopped: bool,
    names: BTreeMap<u32, String>,
    struck: Vec<u32>,
    deaths: Vec<(String, String)>,
    detached: BTreeMap<String, (u32, String)>,
    told_to_end: BTreeSet<String>,
    outcome: Outcome,
}

/// Plays a round in a directory of its own, and takes that away again.
pub(super) async fn play(plan: Plan, directory: PathBuf) -> anyhow::Result<Outcome> {
    fs::create_dir(&directory).context("make the directory of a round")?;
    fs::create_dir(temporary(&directory)).context("make the directory of a round")?;
    let (events, heard) = unbounded_channel();
    let mut tasks = JoinSet::new();
    let listener = UnixListener::bind(word::socket(&directory)).context("listen to a round")?;
    tasks.spawn(listen(listener, events.clone()));
    let (socket, process) = start(&directory)?;
    let master = process.id().context("it has not been waited for")?;
    tasks.spawn(wait(process, events.clone()));

    let mut round = Round {
        begin: Instant::now(),
        due: vec![true; plan.strikes.len()],
        closing: false,
        window_over: false,
        master_stopped: false,
        names: BTreeMap::new(),
        struck: Vec::new(),
        deaths: Vec::new(),
        detached: BTreeMap::new(),
        told_to_end: BTreeSet::new(),
        outcome: Outcome::default(),
        master_socket: Some(socket),
        directory,
        plan,
        events,
        heard,
        tasks,
        master,
    };
    round.begin().await?;
    round.run().await;
    round.end().await;
    round.tasks.shutdown().await;
    let Round { directory, mut outcome, .. } = round;
    let stderr = fs::read_to_string(directory.join("stderr")).unwrap_or_default();
    if !stderr.is_empty() {
        let _ = writeln!(outcome.story, "stderr:\n{stderr}");
    }
    fs::remove_dir_all(&directory).context("take the directory of a round away")?;
    Ok(outcome)
}

/// Says whether a worker is another one, or one of its workers or of theirs.
fn is_or_works_for(name: &str, whom: &str) -> bool {
    name.strip_prefix(whom).is_some_and(|it| it.is_empty() || it.starts_with('.'))
}

/// Where processes of a round put their files.
fn temporary(round: &Path) -> PathBuf {
    round.join("t")
}

/// Starts the first master.
fn start(directory: &Path) -> anyhow::Result<(UnixStream, Child)> {
    let (ours, theirs) = net::UnixStream::pair().context("make a socket pair")?;
    let stderr = File::create(directory.join("stderr"))?;
    let process = Command::new("/proc/self/exe")
        .args(["--serve", Role::Chaos.name()])
        .env(MARK, directory)
        .env("TMPDIR", temporary(directory))
        .env("RPC_PARALLEL_SETTINGS", super::settings()?.to_string())
        .stdin(OwnedFd::from(theirs))
        .stderr(stderr)
        .spawn()
        .context("start the master of a round")?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, process))
}

async fn wait(mut process: Child, events: UnboundedSender<Event>) {
    let _ = events.send(Event::MasterEnded(process.wait().await));
}

/// Hears what the processes of a round tell.
async fn listen(listener: UnixListener, events: UnboundedSender<Event>) {
    let mut processes = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let events = events.clone();
        processes.spawn(async move {
            let mut lines = BufReader::new(socket).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Whoever is killed may leave half a line.
                let Ok(word) = serde_json::from_str(&line) else { continue };
                let _ = events.send(Event::Told(word));
            }
        });
    }
}

impl Round {
    async fn begin(&mut self) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&self.plan)?;
        line.push(b'\n');
        if let Some(socket) = &mut self.master_socket {
            socket.write_all(&line).await.context("tell the master of a round its plan")?;
        }
        self.plan_strikes(&Moment::Begin);
        self.later(self.plan.window, Event::WindowOver);
        self.later(ROUND_BOUND, Event::TooLong);
        Ok(())
    }

    /// Runs until the first master has ended, or is stopped and all that could happen has.
    async fn run(&mut self) {
        while let Some(event) = self.heard.recv().await {
            match event {
                Event::Told(word) => self.hear(word),
                Event::Strike(index) => self.strike(index),
                Event::WindowOver => self.window_over = true,
                Event::MasterEnded(status) => {
                    match status {
                        Ok(status) => self.tell(&format!("the master ended: {status}")),
                        Err(error) => {
                            self.tell(&format!("the master cannot be waited for: {error}"));
                        }
                    }
                    return;
                }
                Event::TooLong => {
                    let what = format!("after {ROUND_BOUND:?} there is {}", self.everybody());
                    self.wrong(Kind::Hung, what);
                    return;
                }
            }
            self.close_if_time().await;
            if self.closing && self.master_stopped {
                return;
            }
        }
    }

    /// Has the master end its workers when nothing is left that should happen before.
    async fn close_if_time(&mut self) {
        if self.closing || !self.window_over {
            return;
        }
        // Those for points that were not reached do not come.
        let waits = self.plan.strikes.iter().zip(&self.due);
        let waits = waits.filter(|(it, due)| **due && it.moment == Moment::Begin).count();
        if waits > 0 {
            return;
        }
        self.closing = true;
        self.tell("the master is told to end its workers");
        if let Some(socket) = &mut self.master_socket {
            // It may be dead.
            let _ = socket.write_all(b".").await;
        }
    }

    fn hear(&mut self, Word { pid, said }: Word) {
        match said {
            Said::Master { name } => self.tell(&format!("{name} ({pid}) is a master")),
            Said::Reached { name, point } => {
                self.tell(&format!("{name} ({pid}): {point:?}"));
                if point == Point::Init {
                    self.names.insert(pid, name.clone());
                }
                self.plan_strikes(&Moment::Reached(name, point));
            }
            Said::StrikesItself { name, blow } => {
                self.tell(&format!("{name} ({pid}) strikes itself: {blow:?}"));
                self.note_blow(pid, blow);
            }
            Said::Death { name, how } => {
                self.tell(&format!("{name} is dead: {how}"));
                self.deaths.push((name, how));
            }
            Said::Detached { name, pid, handle } => {
                self.tell(&format!("{name} ({pid}) is detached"));
                self.detached.insert(name, (pid, handle));
            }
            Said::Wrong(problem) => self.wrong(problem.kind, problem.what),
            Said::Closed => self.tell("the master has ended its workers"),
        }
    }

    fn plan_strikes(&mut self, moment: &Moment) {
        for index in 0..self.plan.strikes.len() {
            let strike = &self.plan.strikes[index];
            if self.due[index] && strike.moment == *moment {
                self.later(strike.delay, Event::Strike(index));
            }
        }
    }

    fn strike(&mut self, index: usize) {
        if !std::mem::take(&mut self.due[index]) {
            return;
        }
        let Strike { whom, blow, .. } = self.plan.strikes[index].clone();
        let struck = match &whom {
            Whom::Master => vec![self.master],
            Whom::Worker(name) => {
                self.names.iter().filter(|(_, it)| *it == name).map(|(pid, _)| *pid).collect()
            }
            Whom::Newest => {
                signal::tree(self.master).into_iter().skip(1).max().into_iter().collect()
            }
            Whom::Half => signal::tree(self.master).into_iter().step_by(2).collect(),
            Whom::Everybody => signal::tree(self.master),
        };
        self.tell(&format!("strike {whom:?} by {blow:?}: {struck:?}"));
        for pid in struck {
            // Until it runs a program of its own, whoever starts it stands still with it.
            let stops = matches!(blow, Blow::Stop | Blow::Pause(_));
            if stops && !signal::has_begun(pid) {
                self.tell(&format!("{pid} has not begun"));
                continue;
            }
            if Target::of(pid, &self.directory).is_some_and(|it| it.strike(blow)) {
                self.note_blow(pid, blow);
            }
        }
    }

    fn note_blow(&mut self, pid: u32, blow: Blow) {
        self.outcome.kills += 1;
        self.struck.push(pid);
        match blow {
            Blow::Pause(time) => self.resume_later(pid, time),
            // Who is alone is continued by nobody, now and later.
            Blow::Stop if self.is_orphan(pid) => self.resume_later(pid, ALONE),
            Blow::Stop => self.master_stopped |= pid == self.master,
            Blow::Kill | Blow::Segv | Blow::Term => {}
        }
    }

    /// Continues a process after a while, whatever becomes of the round until then.
    fn resume_later(&mut self, pid: u32, after: Duration) {
        let Some(target) = Target::of(pid, &self.directory) else { return };
        self.tasks.spawn(async move {
            sleep(after).await;
            target.resume();
        });
    }

    /// Says whether the master of a process is gone.
    fn is_orphan(&self, pid: u32) -> bool {
        let master = signal::parent(pid).and_then(|it| Target::of(it, &self.directory));
        pid != self.master && master.is_none()
    }

    /// Sees to it that nothing is left of the round.
    async fn end(&mut self) {
        if self.master_stopped && signal::state(self.master) != State::Gone {
            self.outlive_a_stopped_master().await;
        }
        if let Some(master) = Target::of(self.master, &self.directory) {
            master.kill();
        }
        // What was told before the end counts.
        self.catch_up();
        self.expect_nobody().await;
        self.expect_no_files().await;
        self.check_deaths();
    }

    /// Hears what has been told meanwhile.
    fn catch_up(&mut self) {
        while let Ok(event) = self.heard.try_recv() {
            if let Event::Told(word) = event {
                self.hear(word);
            }
        }
    }

    /// Demands that workers do not wait for a master that does not run.
    async fn outlive_a_stopped_master(&mut self) {
        self.tell("the master stays stopped");
        let begin = Instant::now();
        loop {
            self.catch_up();
            let mut others = signal::marked(&self.directory);
            others.retain(|it| {
                // Who has no name waits to be told what it is, until its master dies.
                let Some(name) = self.names.get(&it.pid) else { return false };
                let detached = !self.detached_above(name).is_empty();
                !detached && signal::state(it.pid) == State::Runs
            });
            if others.is_empty() {
                return;
            }
            if begin.elapsed() > LIVENESS_BOUND {
                let left: Vec<_> = others.iter().map(|it| signal::describe(it.pid)).collect();
                let what = format!("{LIVENESS_BOUND:?} after their master was stopped: {left:?}");
                return self.wrong(Kind::LeftOver, what);
            }
            sleep(POLL * 5).await;
        }
    }

    /// Ends the workers that live until they are told to end, if they have not been told.
    async fn end_detached(&mut self) {
        for (name, (pid, handle)) in self.detached.clone() {
            if !self.told_to_end.insert(name.clone()) {
                continue;
            }
            // It lives on without a master, and so does nobody but us see that it is stopped.
            if let Some(target) = Target::of(pid, &self.directory) {
                target.resume();
            }
            if signal::state(pid) == State::Gone {
                continue;
            }
            self.tell(&format!("end {name} ({pid})"));
            let worker = match serde_json::from_str::<Worker<Body>>(&handle) {
                Ok(worker) => worker,
                Err(error) => {
                    self.wrong(Kind::Lost, format!("the handle of {name}: {error}"));
                    continue;
                }
            };
            let end = worker.shutdown().timeout(GONE_BOUND / 2);
            let mut ending = tokio::spawn(timeout(LIVENESS_BOUND, end));
            // It may strike itself, and must be continued then.
            let ended = loop {
                self.catch_up();
                if let Ok(ended) = timeout(POLL, &mut ending).await {
                    break ended;
                }
            };
            // Who could not tell it may have met it dying.
            let told = matches!(ended, Ok(Ok(Ok(_))));
            let begin = Instant::now();
            while !told && signal::state(pid) != State::Gone && begin.elapsed() < GONE_BOUND {
                self.catch_up();
                sleep(POLL).await;
            }
            if signal::state(pid) != State::Gone {
                let what = format!("{name} was told to end ({ended:?}): {}", signal::describe(pid));
                self.wrong(Kind::LeftOver, what);
            }
        }
    }

    /// Demands that no process of the round is left.
    async fn expect_nobody(&mut self) {
        let mut begin = Instant::now();
        loop {
            self.catch_up();
            let told_to_end = self.told_to_end.len();
            self.end_detached().await;
            if self.told_to_end.len() > told_to_end {
                begin = Instant::now();
            }
            let left = signal::marked(&self.directory);
            if left.is_empty() {
                return;
            }
            // One that has stopped itself is continued after a while.
            let waits = left.iter().any(|it| signal::state(it.pid) == State::Stopped);
            if begin.elapsed() > if waits { LIVENESS_BOUND } else { GONE_BOUND } {
                for target in left {
                    self.judge_left_over(&target);
                    target.kill();
                }
                begin = Instant::now();
            }
            sleep(POLL).await;
        }
    }

    /// Says what is wrong with a process that is left, if something is.
    fn judge_left_over(&mut self, target: &Target) {
        let what = signal::describe(target.pid);
        match self.names.get(&target.pid) {
            Some(_) if self.is_forgotten(target.pid) => {
                self.tell(&format!("nobody knew how to end {what}"));
            }
            None if signal::state(target.pid) == State::Stopped => {
                self.tell(&format!("stopped before any of our code ran: {what}"));
            }
            name => {
                let name = name.map_or("somebody", String::as_str);
                self.wrong(Kind::LeftOver, format!("{name}: {what}"));
            }
        }
    }

    /// Says whether a process is, or works for, a detached worker whose master died before it could
    /// tell anybody its handle.
    fn is_forgotten(&self, pid: u32) -> bool {
        let Some(name) = self.names.get(&pid) else { return false };
        self.detached_above(name).into_iter().any(|it| !self.detached.contains_key(it))
    }

    /// Returns the names of the worker itself and of those above it, as far as they are detached.
    fn detached_above(&self, name: &str) -> Vec<&str> {
        let mut detached = Vec::new();
        let mut branches = &self.plan.branches;
        while let Some(branch) = branches.iter().find(|it| is_or_works_for(name, &it.name)) {
            if branch.lives == Lives::Detached {
                detached.push(branch.name.as_str());
            }
            branches = &branch.branches;
        }
        detached
    }

    /// Demands that no file of the round is left.
    async fn expect_no_files(&mut self) {
        let temporary = temporary(&self.directory);
        let files = || {
            let files = fs::read_dir(&temporary).into_iter().flatten().flatten();
            files.map(|it| it.path()).collect::<Vec<_>>()
        };
        let begin = Instant::now();
        while !files().is_empty() {
            if begin.elapsed() > GONE_BOUND {
                break;
            }
            sleep(POLL).await;
        }
        for file in files() {
            let is_socket = fs::metadata(&file).is_ok_and(|it| it.file_type().is_socket());
            if is_socket && !self.struck.is_empty() {
                self.tell(&format!("killed between making a socket and taking its name: {file:?}"));
                self.outcome.files += 1;
            } else {
                self.wrong(Kind::LeftOver, format!("file {file:?}"));
            }
        }
    }

    /// Demands that whoever died was struck, or somebody above.
    fn check_deaths(&mut self) {
        for (name, how) in std::mem::take(&mut self.deaths) {
            let explains = |pid: &u32| match self.names.get(pid) {
                Some(struck) => is_or_works_for(&name, struck),
                // It was struck before it had a name.
                None => true,
            };
            if !self.struck.iter().any(explains) {
                self.wrong(Kind::Lost, format!("{name} died, and nobody struck it: {how}"));
            }
        }
    }

    fn everybody(&self) -> String {
        let all = signal::marked(&self.directory);
        all.into_iter().map(|it| signal::describe(it.pid)).collect::<Vec<_>>().join(", ")
    }

    fn later(&mut self, after: Duration, event: Event) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            sleep(after).await;
            let _ = events.send(event);
        });
    }

    fn wrong(&mut self, kind: Kind, what: String) {
        self.tell(&format!("WRONG: {kind:?}: {what}"));
        self.outcome.problems.push(Problem { kind, what });
    }

    fn tell(&mut self, what: &str) {
        let time = self.begin.elapsed().as_secs_f64() * 1e3;
        let _ = writeln!(self.outcome.story, "{time:8.2} ms  {what}");
    }
}
