//! A worker type that starts workers of its own type, in chains and trees.

use std::sync::Mutex;

use futures_util::future::join_all;
use rpc_parallel::Spawner;
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::program::print_line;
use crate::script::{Action, Script};
use crate::waiting::Events;

/// What a node does until it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Behavior {
    /// Performs an action.
    Run(Action),
    /// Starts nodes and drops their clients in a loop.
    SpawnForever,
    /// Reads the endless pipe of a node that it has started.
    ReadForever,
}

/// The functions of [`Node`]; their client is `NodesClient`.
#[rpc_parallel::worker]
pub trait Nodes {
    /// Returns the process id.
    fn pid(&self) -> u32;
    /// Performs an action.
    async fn run(&self, action: Action) -> Result<(), AnyError>;
    /// Begins a behavior in the nodes below, prints `busy <pid>`, and begins it in this node.
    #[worker(one_way)]
    async fn begin(&self, behavior: Behavior);

    /// Spawns this many nodes at once.
    async fn spawn_below(&self, count: u32) -> Result<(), AnyError>;
    /// Spawns a node, and adds a chain of the remaining generations below each node below.
    async fn spawn_chain(&self, generations: u32) -> Result<(), AnyError>;
    /// Connects to a node, which then is below this one.
    async fn connect_below(&self, other: Worker<Node>) -> Result<(), AnyError>;
    /// Drops the clients of the nodes below.
    fn drop_below(&self);
    /// Returns the process ids of all nodes below.
    async fn pids_below(&self) -> Result<Vec<u32>, AnyError>;
    /// Returns the sum of the number over this node and all nodes below.
    async fn sum(&self, number: u64) -> Result<u64, AnyError>;
    /// Returns an endless pipe of the numbers `0..`.
    fn endless_numbers(&self) -> Pipe<u64>;
    /// Returns the endless numbers of the last generation, passed on by all generations between.
    async fn relay_numbers(&self) -> Result<Pipe<u64>, AnyError>;

    /// Starts a node and returns its handle.
    async fn start(&self) -> Result<Worker<Node>, AnyError>;
    /// Connects to a node and returns its process id.
    async fn pid_of(&self, other: Worker<Node>) -> Result<u32, AnyError>;
}

/// A worker that starts workers of its own type, with its own script.
#[derive(Debug)]
pub struct Node {
    script: Script,
    events: Events,
    below: Mutex<Vec<NodesClient>>,
}

impl Node {
    /// Returns a spawner whose name holds the number of generations from the node down.
    pub fn of_generations(generations: u32) -> Spawner<Self> {
        Self::spawner().name(format!("node-{generations}"))
    }

    fn below(&self) -> Vec<NodesClient> {
        self.below.lock().expect("no thread panics with the lock").clone()
    }

    fn add_below(&self, clients: impl IntoIterator<Item = NodesClient>) {
        self.below.lock().expect("no thread panics with the lock").extend(clients);
    }
}

/// Starts nodes and drops their clients in a loop.
pub async fn spawn_forever(script: Script) -> ! {
    loop {
        // The spawn fails when this process is ending.
        drop(Node::spawn(script.clone()).await);
    }
}

impl WorkerState for Node {
    type Init = Script;

    async fn init(script: Script) -> Result<Self, BoxError> {
        let events = Events::default();
        for action in script.init.clone() {
            action.perform(events.clone()).await?;
        }
        Ok(Self { script, events, below: Mutex::default() })
    }

    async fn on_shutdown(&self) {
        for action in self.script.on_shutdown.clone() {
            let performed = action.perform(self.events.clone()).await;
            performed.expect("actions of `on_shutdown` succeed");
        }
    }
}

#[rpc_parallel::worker]
impl Nodes for Node {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    async fn run(&self, action: Action) -> Result<(), AnyError> {
        Ok(action.perform(self.events.clone()).await?)
    }

    async fn begin(&self, behavior: Behavior) {
        for below in self.below() {
            below.begin(behavior.clone()).await.expect("the node below runs");
        }
        print_line(&format!("busy {}", std::process::id()));
        match behavior {
            Behavior::Run(action) => {
                action.perform(self.events.clone()).await.expect("the action succeeds");
            }
            Behavior::SpawnForever => spawn_forever(self.script.clone()).await,
            Behavior::ReadForever => {
                let node = Self::spawn(self.script.clone()).await.expect("start a node");
                let mut numbers = node.endless_numbers().await.expect("call `endless_numbers`");
                while let Some(number) = numbers.next().await {
                    number.expect("the pipe is endless");
                }
            }
        }
    }

    async fn spawn_below(&self, count: u32) -> Result<(), AnyError> {
        let spawned = join_all((0..count).map(|_| Self::spawn(self.script.clone()))).await;
        self.add_below(spawned.into_iter().collect::<Result<Vec<_>, _>>()?);
        Ok(())
    }

    async fn spawn_chain(&self, generations: u32) -> Result<(), AnyError> {
        let Some(remaining) = generations.checked_sub(1) else { return Ok(()) };
        let next = Self::of_generations(generations).spawn(self.script.clone()).await?;
        self.add_below([next]);
        for below in self.below() {
            below.spawn_chain(remaining).await?;
        }
        Ok(())
    }

    async fn connect_below(&self, other: Worker<Node>) -> Result<(), AnyError> {
        let other = other.connect(()).await?;
        other.pid().await?;
        self.add_below([other]);
        Ok(())
    }

    fn drop_below(&self) {
        self.below.lock().expect("no thread panics with the lock").clear();
    }

    async fn pids_below(&self) -> Result<Vec<u32>, AnyError> {
        let mut pids = Vec::new();
        for below in self.below() {
            pids.push(below.pid().await?);
            pids.extend(below.pids_below().await?);
        }
        Ok(pids)
    }

    async fn sum(&self, number: u64) -> Result<u64, AnyError> {
        let mut sum = number;
        for below in self.below() {
            sum += below.sum(number).await?;
        }
        Ok(sum)
    }

    fn endless_numbers(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn relay_numbers(&self) -> Result<Pipe<u64>, AnyError> {
        match self.below().first() {
            Some(below) => Ok(below.relay_numbers().await?),
            None => Ok(self.endless_numbers()),
        }
    }

    async fn start(&self) -> Result<Worker<Node>, AnyError> {
        Ok(Self::spawner().start(self.script.clone()).await?)
    }

    async fn pid_of(&self, other: Worker<Node>) -> Result<u32, AnyError> {
        Ok(other.connect(()).await?.pid().await?)
    }
}
