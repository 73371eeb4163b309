//! A master with generations of busy workers: `left_behind BEHAVIOR GENERATIONS`.
//!
//! Each worker prints `worker <pid>` in its `init` and `busy <pid>` when it begins its behavior. The
//! master then prints `ready` and reads commands from stdin: `return`, `panic`, `exit` and `abort`
//! end it in this way, `count` prints how many workers answer.

use std::io;
use std::time::Duration;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::node::{Behavior, Node, NodesClient, spawn_forever};
use rpc_parallel_tests::program::print_line;
use rpc_parallel_tests::script::{Action, Script};

/// The clients and handles that the master holds until it ends.
#[derive(Default)]
struct Held {
    clients: Vec<NodesClient>,
    workers: Vec<Worker<Node>>,
}

/// Returns a script whose `init` prints the process id and then performs an action.
fn script(then: Action) -> Script {
    Script::init([Action::PrintWithPid("worker".into()), then])
}

fn compute() -> Action {
    Action::ComputeFor(Duration::MAX)
}

async fn begin(mode: &str, generations: u32) -> anyhow::Result<Held> {
    let mut held = Held::default();
    let mut script = script(match mode {
        "waiting-in-init" => Action::Wait,
        "computing-in-init" => compute(),
        "reading-in-init" | "detached-in-init" => Action::BlockInRead,
        _ => Action::Return,
    });
    if mode == "pending-on-shutdown" {
        script.on_shutdown = vec![Action::Wait];
    }
    let behavior = match mode {
        "idle" | "started" | "listening" | "serving" | "pending-on-shutdown" => {
            Behavior::Run(Action::Return)
        }
        "computing" => Behavior::Run(compute()),
        "sleeping" => Behavior::Run(Action::Block),
        "reading" => Behavior::Run(Action::BlockInRead),
        "streaming" => Behavior::ReadForever,
        "spawning" => Behavior::SpawnForever,
        "waiting-in-init" | "computing-in-init" | "reading-in-init" | "detached-in-init" => {
            for _ in 0..generations {
                begin_to_start(mode == "detached-in-init", script.clone());
            }
            return Ok(held);
        }
        _ => anyhow::bail!("unknown behavior `{mode}`"),
    };
    if mode == "started" || mode == "listening" {
        for _ in 0..generations {
            let worker = Node::spawner().start(script.clone()).await?;
            let client = worker.connect(()).await?;
            if mode == "listening" {
                for other in &held.workers {
                    client.connect_below(other.clone()).await?;
                }
            }
            // `begin` would also reach the workers that this one has connected to.
            print_line(&format!("busy {}", client.label().pid().unwrap_or_default()));
            held.workers.push(worker);
            held.clients.push(client);
        }
        return Ok(held);
    }
    let first = Node::of_generations(generations).spawn(script.clone()).await?;
    first.spawn_chain(generations - 1).await?;
    if mode == "serving" {
        first.connect_below(Node::serve(script.clone()).await?).await?;
    }
    first.begin(behavior).await?;
    if mode == "spawning" {
        tokio::spawn(spawn_forever(script.clone()));
        tokio::spawn(spawn_forever(script));
    }
    held.clients.push(first);
    Ok(held)
}

/// Begins to start a worker whose `init` does not return.
fn begin_to_start(detached: bool, script: Script) {
    tokio::spawn(async move {
        match detached {
            true => panic!("{:?}", Node::spawner().start_detached(script).await),
            false => panic!("{:?}", Node::spawn(script).await),
        }
    });
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode, generations] = &args[..] else {
        anyhow::bail!("usage: left_behind BEHAVIOR GENERATIONS")
    };
    let held = begin(mode, generations.parse()?).await?;
    print_line("ready");

    loop {
        let command = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await?;
        match command.transpose()?.as_deref() {
            Some("return") | None => return Ok(()),
            Some("panic") => panic!("panic by command"),
            Some("exit") => std::process::exit(3),
            Some("abort") => std::process::abort(),
            Some("count") => {
                let mut count = 0;
                for client in &held.clients {
                    count += client.sum(1).await?;
                }
                print_line(&format!("count {count}"));
            }
            Some(other) => anyhow::bail!("unknown command `{other}`"),
        }
    }
}
