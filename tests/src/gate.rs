//! A gate at which threads of other processes block until the test opens it.

use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use tokio::net;

/// The test's side of a gate. Dropping it opens the gate for good.
#[derive(Debug)]
pub struct Gate {
    listener: net::UnixListener,
    address: GateAddress,
}

/// The address of a [`Gate`], for the threads that block at it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateAddress(String);

/// A thread that has reached the gate. Dropping this value unblocks the thread.
#[derive(Debug)]
pub struct BlockedThread(net::UnixStream);

impl BlockedThread {
    /// Returns the process id of the thread.
    ///
    /// # Panics
    ///
    /// Panics if the system cannot report it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let pid = self.0.peer_cred().ok().and_then(|it| it.pid());
        pid.and_then(|it| it.try_into().ok()).expect("the peer is a process of this host")
    }
}

impl Gate {
    /// Makes a gate.
    ///
    /// # Panics
    ///
    /// Panics if no socket can be made.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The abstract namespace leaves no files behind.
        let address = GateAddress(format!("rpc-parallel-gate-{}-{number}", std::process::id()));
        let listener = address.bind().expect("the name of the gate is unique");
        Self { listener, address }
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> GateAddress {
        self.address.clone()
    }

    /// Waits until a thread reaches the gate.
    ///
    /// # Panics
    ///
    /// Panics if the socket fails.
    pub async fn reached(&self) -> BlockedThread {
        let (socket, _) = self.listener.accept().await.expect("accept a connection");
        BlockedThread(socket)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl GateAddress {
    /// Blocks this thread until the gate opens.
    pub fn block(&self) {
        // A gate that does not exist any more is open.
        if let Ok(mut gate) = self.connect() {
            let _ = gate.read(&mut [0]);
        }
    }

    /// Notifies the gate that this thread has reached it, and returns at once.
    pub fn notify(&self) {
        let _ = self.connect();
    }

    fn bind(&self) -> io::Result<net::UnixListener> {
        let listener = UnixListener::bind_addr(&self.socket_address()?)?;
        listener.set_nonblocking(true)?;
        net::UnixListener::from_std(listener)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&self.socket_address()?)
    }

    fn socket_address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(&self.0)
    }
}
