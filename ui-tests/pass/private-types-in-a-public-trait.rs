//! The compiler warns about them and goes on, as in any trait.

#![allow(private_bounds, private_interfaces)]

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order;

#[derive(Debug, Serialize, Deserialize)]
struct SoldOut;

#[rpc_parallel::worker]
pub trait Shop {
    async fn buy(&self, order: Order, more: &[Order]) -> Result<Order, SoldOut>;
    fn ask(&self) -> Option<Order>;
}

#[derive(Default, rpc_parallel::WorkerState)]
struct Corner;

#[rpc_parallel::worker]
impl Shop for Corner {
    async fn buy(&self, order: Order, _: &[Order]) -> Result<Order, SoldOut> {
        Ok(order)
    }
    fn ask(&self) -> Option<Order> {
        None
    }
}

#[rpc_parallel::entry]
fn main() {
    let _: fn(&ShopClient) = |client| drop(client.buy(Order, &[]));
    let _ = (ShopClient::BUY, ShopClient::ASK);
}
