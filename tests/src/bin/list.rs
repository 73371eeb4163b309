//! Links all worker types of the library and starts none.

use rpc_parallel_tests as _;

#[rpc_parallel::entry]
fn main() {}
