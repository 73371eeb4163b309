//! Traits and types in different modules, in functions, and under other names.

pub mod declared {
    #[rpc_parallel::worker]
    pub trait Work: Send + Sync {
        async fn work(&self) -> u8;
    }

    pub(crate) mod deeper {
        #[rpc_parallel::worker]
        pub(in crate::declared) trait Hidden {
            fn work(&self);
        }

        #[derive(Default, rpc_parallel::WorkerState)]
        pub(in crate::declared) struct Worker;

        #[rpc_parallel::worker]
        impl Hidden for Worker {
            fn work(&self) {}
        }
    }

    pub fn names(client: &impl Clone) {
        let _ = client.clone();
        let _ = deeper::HiddenClient::WORK;
    }
}

pub use declared::Work as Renamed;

pub mod implemented {
    #[derive(Default, rpc_parallel::WorkerState)]
    pub struct One;

    #[rpc_parallel::worker]
    impl crate::declared::Work for One {
        async fn work(&self) -> u8 {
            1
        }
    }

    #[derive(Default, rpc_parallel::WorkerState)]
    pub struct Two<const N: usize>;

    #[rpc_parallel::worker(client = crate::declared::WorkClient)]
    impl super::Renamed for Two<2> {
        async fn work(&self) -> u8 {
            2
        }
    }
}

#[rpc_parallel::entry]
fn main() {
    #[rpc_parallel::worker]
    trait Local {
        fn local(&self) -> u8;
    }

    #[derive(Default, rpc_parallel::WorkerState)]
    struct Here;

    #[rpc_parallel::worker]
    impl Local for Here {
        fn local(&self) -> u8 {
            3
        }
    }

    let _ = LocalClient::LOCAL;
}
