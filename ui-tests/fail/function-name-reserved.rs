#[rpc_parallel::worker]
pub trait Arithmetic {
    fn client(&self);
    fn clone(&self) -> u8;
    fn close(&self);
    fn close_server(&self);
    fn closed(&self) -> bool;
    fn fmt(&self) -> String;
    fn from_client(&self);
    fn is_closed(&self) -> bool;
    fn kill(&self);
    fn label(&self) -> String;
    fn logs(&self) -> String;
    fn shutdown(&self);
    fn stats(&self) -> u8;
    fn worker_id(&self) -> u8;
}

fn main() {}
