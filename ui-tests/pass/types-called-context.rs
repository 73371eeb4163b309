//! A type with the name of our context, which callers pass by value.

#![deny(warnings)]

use rpc_parallel::WorkerState;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Context {
    pub line: u64,
}

#[rpc_parallel::worker]
pub trait Editor {
    fn complete(&self, at: Context, cx: &rpc_parallel::Context) -> Context;
}

#[derive(Default, WorkerState)]
pub struct Plain;

#[rpc_parallel::worker]
impl Editor for Plain {
    fn complete(&self, at: Context, _: &rpc_parallel::Context) -> Context {
        Context { line: at.line + 1 }
    }
}

pub fn calls(client: &EditorClient) {
    drop(client.complete(Context { line: 1 }));
}

fn main() {}
