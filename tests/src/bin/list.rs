//! Has the workers of the library and nothing to do with them.

use rpc_parallel_tests as _;

#[rpc_parallel::entry]
fn main() {}
