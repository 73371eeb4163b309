trait Shape {
    #[rpc_parallel::process]
    fn area(side: u64) -> u64;
}

struct Square;

impl Shape for Square {
    fn area(side: u64) -> u64 {
        side * side
    }
}

fn main() {
    println!("{}", Square::area(2));
}
