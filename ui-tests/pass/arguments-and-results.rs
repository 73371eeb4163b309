//! Every kind of argument and result.

#![allow(unused_parens)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree<T> {
    pub value: T,
    pub children: Vec<Tree<T>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Wrong {
    Much { by: u64 },
    Little,
}

pub type Outcome<T> = Result<T, Wrong>;

pub mod fallible {
    pub type Result<T, E = super::Wrong> = std::result::Result<T, E>;
}

const SIDE: usize = 4;

#[rpc_parallel::worker]
pub trait Kinds {
    #[worker(id = "nothing")]
    fn nothing(&self);
    fn unit(&self, unit: ()) -> ();
    async fn by_value(&self, number: u64, text: String, bytes: Vec<u8>, tree: Tree<u8>) -> u64;
    async fn by_reference(&self, number: &u64, text: &str, bytes: &[u8], tree: &Tree<u8>) -> u64;
    async fn owned_by_reference(&self, text: &String, list: &Vec<Tree<u8>>, path: &PathBuf);
    async fn paths(&self, path: &Path, owned: PathBuf) -> PathBuf;
    fn compound(&self, map: HashMap<String, (u8, [u16; SIDE & 7])>) -> Option<Box<Tree<()>>>;
    fn borrowed_or_owned(&self, text: Cow<'static, str>) -> Cow<'static, str>;
    fn elided(&self, text: &'_ str) -> Duration;
    fn parenthesized(&self, text: &(str), number: (u8), pipe: (rpc_parallel::Pipe<u8>)) -> (u8);
    fn result(&self) -> Result<u8, Wrong>;
    async fn with_path(&self) -> std::result::Result<u8, Wrong>;
    async fn through_an_alias(&self) -> fallible::Result<u8>;
    #[worker(id = "by another name", result)]
    async fn by_another_name(&self) -> Outcome<u8>;
    async fn a_plain_alias(&self) -> Outcome<u8>;
    fn nested(&self) -> Option<Result<u8, Wrong>>;
    #[allow(clippy::too_many_arguments)]
    fn sixteen(
        &self,
        a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8,
        i: u8, j: u8, k: u8, l: u8, m: u8, n: u8, o: u8, p: &str,
    );
}

#[derive(Default, rpc_parallel::WorkerState)]
pub struct Worker;

#[rpc_parallel::worker]
impl Kinds for Worker {
    fn nothing(&self) {}
    fn unit(&self, (): ()) {}
    async fn by_value(&self, number: u64, _: String, _: Vec<u8>, _: Tree<u8>) -> u64 {
        number
    }
    async fn by_reference(&self, number: &u64, _: &str, _: &[u8], _: &Tree<u8>) -> u64 {
        *number
    }
    async fn owned_by_reference(&self, _: &String, _: &Vec<Tree<u8>>, _: &PathBuf) {}
    async fn paths(&self, path: &Path, owned: PathBuf) -> PathBuf {
        path.join(owned)
    }
    fn compound(&self, _: HashMap<String, (u8, [u16; SIDE & 7])>) -> Option<Box<Tree<()>>> {
        None
    }
    fn borrowed_or_owned(&self, text: Cow<'static, str>) -> Cow<'static, str> {
        text
    }
    fn elided(&self, _: &str) -> Duration {
        Duration::ZERO
    }
    fn parenthesized(&self, _: &str, number: u8, _: rpc_parallel::Pipe<u8>) -> u8 {
        number
    }
    fn result(&self) -> Result<u8, Wrong> {
        Err(Wrong::Little)
    }
    async fn with_path(&self) -> Result<u8, Wrong> {
        Ok(1)
    }
    async fn through_an_alias(&self) -> Result<u8, Wrong> {
        Ok(1)
    }
    async fn by_another_name(&self) -> Outcome<u8> {
        Ok(1)
    }
    async fn a_plain_alias(&self) -> Outcome<u8> {
        Ok(1)
    }
    fn nested(&self) -> Option<Result<u8, Wrong>> {
        None
    }
    fn sixteen(
        &self,
        _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8,
        _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: &str,
    ) {
    }
}

pub async fn calls(client: &KindsClient) {
    let tree = Tree { value: 1, children: vec![] };
    let one: u64 = client.by_reference(&1, "one", &[1], &tree).await.expect("the worker answers");
    let two: u8 = client.by_another_name().await.expect("the worker answers");
    let three: Result<u8, Wrong> = client.a_plain_alias().await.expect("the worker answers");
    drop((one, two, three));
}

#[rpc_parallel::entry]
fn main() {}
