use std::ffi::OsString;

#[rpc_parallel::entry]
async fn main(args: Vec<OsString>) {
    drop(args);
}

pub mod other {
    #[rpc_parallel::entry]
    pub async fn main(args: std::env::ArgsOs) {
        drop(args);
    }

    pub use main as not_the_programs;
}
