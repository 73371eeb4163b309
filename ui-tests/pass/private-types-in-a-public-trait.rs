//! rustc only warns about private types in a public trait, as in every trait.

#![allow(private_bounds, private_interfaces)]

use rpc_parallel::{Pipe, PipeWriter};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order;

#[derive(Debug, Serialize, Deserialize)]
struct SoldOut;

#[rpc_parallel::worker]
pub trait Shop {
    async fn buy(&self, order: Order, more: &[Order]) -> Result<Order, SoldOut>;
    fn ask(&self) -> Option<Order>;
    async fn buy_all(&self, orders: Pipe<Order>, parcels: PipeWriter<Order>) -> Pipe<Order>;
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
    async fn buy_all(&self, orders: Pipe<Order>, _: PipeWriter<Order>) -> Pipe<Order> {
        orders
    }
}

#[rpc_parallel::entry]
fn main() {
    let _: fn(&ShopClient) = |client| drop(client.buy(Order, &[]));
    let _: fn(&ShopClient) = |client| {
        let (parcels, _) = Pipe::pair();
        drop(client.buy_all(Pipe::from_items([Order]), parcels));
    };
    let _ = (ShopClient::BUY, ShopClient::ASK, ShopClient::BUY_ALL);
}
