//! Names that are keywords of Rust.

#[rpc_parallel::worker]
pub trait Music {
    async fn r#loop(&self, r#type: String, r#fn: &[u8]) -> r#struct;
    fn r#match(&self) -> Result<r#struct, r#enum>;
    #[worker(one_way)]
    async fn r#move(&self, r#in: rpc_parallel::Pipe<r#struct>);
}

#[allow(non_camel_case_types)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct r#struct {
    pub r#for: u8,
}

#[allow(non_camel_case_types)]
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct r#enum;

#[derive(Default, rpc_parallel::WorkerState)]
pub struct r#Player;

#[rpc_parallel::worker]
impl Music for r#Player {
    async fn r#loop(&self, r#type: String, r#fn: &[u8]) -> r#struct {
        let _ = (r#type, r#fn);
        r#struct { r#for: 1 }
    }
    fn r#match(&self) -> Result<r#struct, r#enum> {
        Err(r#enum)
    }
    async fn r#move(&self, r#in: rpc_parallel::Pipe<r#struct>) {
        drop(r#in);
    }
}

pub fn calls(client: &MusicClient) {
    drop(client.r#loop(String::new(), &[]));
    drop(client.r#match());
    drop(client.r#move(rpc_parallel::Pipe::from_items([r#struct { r#for: 1 }])));
    let _ = (MusicClient::LOOP, MusicClient::MATCH);
}

#[rpc_parallel::entry]
fn main() {}
