//! A master with workers, each of which prints `worker <pid>` in its `init`: `lineage MODE COUNT`.
//!
//! It prints `ready`, and returns from `main` after the line `return` or the end of stdin.

use std::io;

use rpc_parallel::Spawner;
use rpc_parallel::launch::WrapperLauncher;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::node::Node;
use rpc_parallel_tests::program::print_line;
use rpc_parallel_tests::script::{Action, Script};

/// Returns a script whose `init` prints the process id and then performs an action.
fn script(then: Action) -> Script {
    Script::init([Action::PrintWithPid("worker".into()), then])
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, mode, count] = &args[..] else { anyhow::bail!("usage: lineage MODE COUNT") };
    let count = count.parse()?;
    let script = script(match mode.as_str() {
        "wrapped-and-blocked-in-init" => Action::Block,
        _ => Action::Return,
    });
    let mut clients = Vec::new();
    let mut workers = Vec::new();
    match mode.as_str() {
        "idle" => {
            for _ in 0..count {
                clients.push(Node::spawner().name("idle").spawn(script.clone()).await?);
            }
        }
        "wrapped" => {
            for _ in 0..count {
                clients.push(wrapped().spawn(script.clone()).await?);
            }
        }
        "wrapped-and-blocked-in-init" => {
            for _ in 0..count {
                let spawning = wrapped().spawn(script.clone());
                tokio::spawn(async move { panic!("{:?}", spawning.await) });
            }
        }
        "generations" => {
            let first = Node::of_generations(count).spawn(script).await?;
            first.spawn_chain(count - 1).await?;
            clients.push(first);
        }
        "printing" => {
            let node = Node::spawn(script).await?;
            let lines = (1..=count).flat_map(|line| {
                [
                    Action::Print(format!("line {line} to stdout")),
                    Action::PrintToStderr(format!("line {line} to stderr")),
                ]
            });
            node.run(Action::Sequence(lines.collect())).await?;
        }
        "serving" => {
            let served = Node::serve(script.clone()).await?;
            for _ in 1..count {
                let node = Node::spawn(script.clone()).await?;
                node.connect_below(served.clone()).await?;
                clients.push(node);
            }
        }
        "listening" => {
            for _ in 0..count {
                let worker = Node::spawner().start(script.clone()).await?;
                let client = worker.connect(()).await?;
                for other in &workers {
                    client.connect_below(Worker::clone(other)).await?;
                }
                workers.push(worker);
                clients.push(client);
            }
        }
        _ => anyhow::bail!("unknown mode `{mode}`"),
    }
    print_line("ready");

    let command = tokio::task::spawn_blocking(|| io::stdin().lines().next()).await?;
    match command.transpose()?.as_deref() {
        Some("return") | None => Ok(()),
        Some(other) => anyhow::bail!("unknown command `{other}`"),
    }
}

/// Returns a spawner with a shell that forks the worker and waits for it.
fn wrapped() -> Spawner<Node> {
    let shell = WrapperLauncher::new("/bin/sh").args(["-c", r#""$@"; exit $?"#, "sh"]);
    Node::spawner().launcher(shell)
}
