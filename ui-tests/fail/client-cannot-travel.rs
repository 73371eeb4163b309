#[rpc_parallel::worker]
pub trait Bank {
    fn total(&self) -> u64;
}

#[rpc_parallel::worker]
pub trait Audit {
    fn inspect(&self, bank: BankClient) -> u64;
}

fn main() {}
