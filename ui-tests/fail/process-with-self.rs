struct Square(u64);

impl Square {
    #[rpc_parallel::process]
    fn area(&self) -> u64 {
        self.0 * self.0
    }
}

fn main() {
    println!("{}", Square(2).area());
}
