//! A module that shadows the names of the standard prelude.

#[derive(Default, rpc_parallel::WorkerState)]
pub struct Shadow;

pub mod shadowed {
    #![allow(dead_code, non_camel_case_types)]

    use super::Shadow;

    pub trait Send {}
    pub trait Sync {}
    pub trait Sized {}
    pub trait Clone {}
    pub trait Debug {}
    pub trait Default {}
    pub trait Drop {}
    pub trait Fn {}
    pub trait From {}
    pub trait Future {}
    pub struct Option;
    pub struct Vec;
    pub struct String;
    pub struct Box;
    pub struct Some;
    pub struct None;
    pub struct Ok;
    pub struct Err;
    pub struct Client;
    pub struct Codec;
    pub struct Call;
    pub struct Pipe;
    pub trait Stream {}
    pub trait IntoPipe {}
    pub mod core {}
    pub mod std {}
    pub mod rpc_parallel {}
    pub mod serde {}

    #[derive(::serde::Serialize, ::serde::Deserialize)]
    pub struct Result(pub u8);

    #[::rpc_parallel::worker]
    pub trait Work {
        async fn one(&self, x: u64, y: &str) -> u64;
        fn two(&self) -> ::std::result::Result<u64, ::std::string::String>;
        fn three(&self);
        #[worker(one_way)]
        fn four(&self, xs: ::rpc_parallel::Pipe<u64>, pipe: &::rpc_parallel::Context<()>);
    }

    #[::rpc_parallel::worker]
    impl Work for Shadow {
        async fn one(&self, x: u64, y: &str) -> u64 {
            x + y.len() as u64
        }
        fn two(&self) -> ::std::result::Result<u64, ::std::string::String> {
            ::std::result::Result::Ok(2)
        }
        fn three(&self) {}
        fn four(&self, _: ::rpc_parallel::Pipe<u64>, _: &::rpc_parallel::Context<()>) {}
    }
}

#[rpc_parallel::entry]
async fn main() {}
