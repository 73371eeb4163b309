#[rpc_parallel::worker]
pub trait Log {
    #[worker(one_way, no_cancel)]
    async fn note(&self, line: String);
    #[worker(no_cancel)]
    #[worker(one_way)]
    fn flush(&self);
}

fn main() {}
