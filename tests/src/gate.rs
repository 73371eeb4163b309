//! A gate between two processes, at which a thread stands and blocks until it is opened.

use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use tokio::net;

/// The gate, as the test holds it; it opens for good when it is dropped.
#[derive(Debug)]
pub struct Gate {
    listener: net::UnixListener,
    way: WayThrough,
}

/// Where the gate is, for those who shall stand at it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WayThrough(String);

/// One who stands at the gate; dropping it lets him pass.
#[derive(Debug)]
pub struct Standing(net::UnixStream);

impl Standing {
    /// Returns the process that stands there.
    ///
    /// # Panics
    ///
    /// The system does not know it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let pid = self.0.peer_cred().ok().and_then(|it| it.pid());
        pid.and_then(|it| it.try_into().ok()).expect("it has connected from this machine")
    }
}

impl Gate {
    /// Makes a gate.
    ///
    /// # Panics
    ///
    /// There are no more sockets.
    #[must_use]
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // In a namespace of its own, which leaves no files behind.
        let way = WayThrough(format!("rpc-parallel-gate-{}-{number}", std::process::id()));
        let listener = way.bind().expect("there is no other gate of this name");
        Self { listener, way }
    }

    /// Returns where it is.
    #[must_use]
    pub fn way(&self) -> WayThrough {
        self.way.clone()
    }

    /// Waits until somebody stands at the gate.
    ///
    /// # Panics
    ///
    /// The gate is broken.
    pub async fn reached(&self) -> Standing {
        let (standing, _) = self.listener.accept().await.expect("the gate works");
        Standing(standing)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl WayThrough {
    /// Blocks this thread until the gate opens.
    pub fn block(&self) {
        // Where there is no gate any more, it is open.
        if let Ok(mut gate) = self.address().and_then(|it| UnixStream::connect_addr(&it)) {
            let _ = gate.read(&mut [0]);
        }
    }

    /// Shows up at the gate and goes on at once.
    pub fn pass_by(&self) {
        let _ = self.address().and_then(|it| UnixStream::connect_addr(&it));
    }

    fn bind(&self) -> io::Result<net::UnixListener> {
        let listener = UnixListener::bind_addr(&self.address()?)?;
        listener.set_nonblocking(true)?;
        net::UnixListener::from_std(listener)
    }

    fn address(&self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(&self.0)
    }
}
