//! Every kind of worker function in one trait.

#![deny(warnings)]

use futures_core::Stream;
use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub struct Tick(pub u64);

#[derive(Serialize, Deserialize)]
pub struct Updates {
    pub first: Tick,
    pub more: Pipe<Tick>,
}

pub type Numbers = Pipe<u64>;

#[rpc_parallel::worker]
pub trait Feed {
    fn now(&self) -> Tick;
    async fn later(&self, cx: &Context<()>, after: &Tick) -> Result<Tick, String>;
    async fn ticks(&self, every: u64) -> Pipe<Tick>;
    async fn try_ticks(&self) -> Result<Pipe<Tick>, String>;
    fn watch(&self, cx: &Context<()>, key: &str) -> (Tick, Pipe<Tick>);
    async fn updates(&self) -> Updates;
    async fn total(&self, numbers: Pipe<u64>) -> u64;
    fn with_a_path(&self, numbers: rpc_parallel::Pipe<u64>) -> u64;
    async fn merge(&self, name: &str, a: Pipe<Tick>, b: Pipe<Tick>, cx: &Context<()>) -> Pipe<Tick>;
    async fn all_of(&self, pipes: Vec<Pipe<u64>>, last: Option<Pipe<Vec<u8>>>) -> u64;
    async fn through_an_alias(&self, numbers: Numbers) -> Numbers;
    async fn render(&self, scene: String, tiles: PipeWriter<Tick>);
    async fn both_ways(&self, questions: Pipe<String>, answers: PipeWriter<String>);
    #[worker(one_way)]
    async fn note(&self, line: String);
    #[worker(one_way, id = "notes")]
    fn notes(&self, cx: &Context<()>, lines: Pipe<String>) -> ();
    #[worker(no_cancel)]
    async fn save(&self) -> Result<(), String>;
    #[cfg(unix)]
    #[worker(one_way)]
    fn signal(&self, number: i32);
    #[cfg(not(unix))]
    #[worker(no_cancel)]
    fn signal(&self, handle: NoSuchType) -> Pipe<NoSuchType>;
    #[deprecated = "use `total`"]
    async fn sum(&self, numbers: Pipe<u64>) -> u64;
}

#[derive(Default, WorkerState)]
pub struct Ticker;

#[rpc_parallel::worker]
impl Feed for Ticker {
    fn now(&self) -> Tick {
        Tick(0)
    }
    async fn later(&self, _: &Context<()>, after: &Tick) -> Result<Tick, String> {
        Ok(Tick(after.0 + 1))
    }
    async fn ticks(&self, every: u64) -> Pipe<Tick> {
        Pipe::from_items((0..).map(move |it| Tick(it * every)))
    }
    async fn try_ticks(&self) -> Result<Pipe<Tick>, String> {
        Err("there is no clock".into())
    }
    fn watch(&self, _: &Context<()>, _: &str) -> (Tick, Pipe<Tick>) {
        (Tick(0), Pipe::pair().1)
    }
    async fn updates(&self) -> Updates {
        Updates { first: Tick(0), more: Pipe::pair().1 }
    }
    async fn total(&self, mut numbers: Pipe<u64>) -> u64 {
        let mut total = 0;
        while let Some(Ok(number)) = numbers.next().await {
            total += number;
        }
        total
    }
    fn with_a_path(&self, _: Pipe<u64>) -> u64 {
        0
    }
    async fn merge(&self, _: &str, a: Pipe<Tick>, _: Pipe<Tick>, _: &Context<()>) -> Pipe<Tick> {
        a
    }
    async fn all_of(&self, pipes: Vec<Pipe<u64>>, _: Option<Pipe<Vec<u8>>>) -> u64 {
        pipes.len() as u64
    }
    async fn through_an_alias(&self, numbers: Numbers) -> Numbers {
        numbers
    }
    async fn render(&self, _: String, tiles: PipeWriter<Tick>) {
        let _ = tiles.send(Tick(1)).await;
    }
    async fn both_ways(&self, mut questions: Pipe<String>, answers: PipeWriter<String>) {
        while let Some(Ok(question)) = questions.next().await {
            let _ = answers.send(question).await;
        }
    }
    async fn note(&self, _: String) {}
    fn notes(&self, _: &Context<()>, _: Pipe<String>) {}
    async fn save(&self) -> Result<(), String> {
        Ok(())
    }
    fn signal(&self, _: i32) {}
    async fn sum(&self, numbers: Pipe<u64>) -> u64 {
        self.total(numbers).await
    }
}

pub async fn calls(client: &FeedClient, stream: impl Stream<Item = u64> + Send + 'static) {
    let (writer, reader) = Pipe::pair();
    let total: Result<u64, CallError> = client.total(stream).await;
    let ticks: Result<Pipe<Tick>, CallError> = client.ticks(2).await;
    let tried: Result<Pipe<Tick>, FunctionError<String>> = client.try_ticks().await;
    let watched: Result<(Tick, Pipe<Tick>), CallError> = client.watch("key").await;
    let merged = client.merge("two", Pipe::from_items([Tick(1)]), reader).await;
    let aliased = client.through_an_alias(Pipe::from_items([1, 2, 3])).await;
    let all = client.all_of(vec![Pipe::from_items([1])], None).await;
    let (answers, _received) = Pipe::pair();
    let both = client.both_ways(Pipe::from_items([String::new()]), answers).await;
    let noted: Result<(), CallError> = client.note("hello".into()).await;
    let notes: Result<(), CallError> = client.notes(Pipe::from_items([String::new()])).await;
    let saved: Result<(), FunctionError<String>> = client.save().await;
    drop((total, ticks, tried, watched, merged, aliased, all, both, noted, notes, saved));
    drop((client.render(String::new(), writer), client.with_a_path(Pipe::from_items(0..9))));
    #[cfg(unix)]
    drop((client.signal(1), FeedClient::SIGNAL));
    let _ = (FeedClient::TOTAL, FeedClient::NOTE, FeedClient::SAVE, FeedClient::MERGE);
    #[expect(deprecated)]
    drop(client.sum(Pipe::from_items([1])));
}

#[rpc_parallel::entry]
fn main() {}
