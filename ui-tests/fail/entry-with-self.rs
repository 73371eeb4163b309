struct Program;

impl Program {
    #[rpc_parallel::entry]
    fn main(&self) {}
}

fn main() {
    Program.main();
}
