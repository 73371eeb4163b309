use rpc_parallel::Pipe;

#[rpc_parallel::worker]
pub trait Log {
    #[worker(one_way)]
    async fn note(&self, line: String) -> u64;
    #[worker(one_way)]
    fn flush(&self) -> Result<(), std::fmt::Error>;
    #[worker(one_way)]
    fn lines(&self) -> Pipe<String>;
    #[worker(one_way)]
    fn clear(&self) -> ();
}

pub async fn uses(client: LogClient) {
    let _ = client.note(String::new()).await;
    let _ = client.flush().await;
}

fn main() {}
