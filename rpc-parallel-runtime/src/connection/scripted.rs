//! Connections in memory whose functions are closures, for the tests and fuzz targets of this
//! layer.

use std::any::type_name;
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::answer::plain;
use super::answering::{Answering, Incoming, Running, Session};
use super::call::Call;
use super::client::Client;
use super::opening::{Opening, OpeningError, encode_request};
use super::process_access::ProcessAccess;
use super::scope::CallScope;
use super::traffic::Traffic;
use crate::transport::memory::{MemoryReader, MemoryWriter};
use crate::transport::{Reader, Writer};
use crate::wire::{
    DecodeError, Decoder, FunctionId, FunctionInfo, Greeting, Message, Refusal, Settings,
    SourceLocation, WorkerId, WorkerLabel, codec,
};

/// One end of a transport in memory.
pub(super) type Halves = (MemoryReader, MemoryWriter);

/// Describes a function by its name alone.
pub(super) const fn function(name: &'static str) -> FunctionInfo {
    const LOCATION: SourceLocation =
        SourceLocation { package: "p", version: "1.0.0", module: "m", file: "f", line: 1 };
    FunctionInfo::new(name, "Scripted", LOCATION, "..", "..")
}

/// A session whose functions are closures.
#[derive(Default)]
pub(super) struct Functions {
    functions: HashMap<FunctionId, Begin>,
    lasting: HashSet<FunctionId>,
    names: Vec<String>,
}

type Begin =
    Box<dyn Fn(&mut Incoming<'_>) -> Result<Pin<Box<dyn Running>>, DecodeError> + Send + Sync>;

impl Functions {
    /// Adds a function.
    pub(super) fn with<A, R, F>(
        self,
        info: &'static FunctionInfo,
        run: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: Message,
        R: Message,
        F: Future<Output = R> + Send + 'static,
    {
        self.with_scope(info, move |arguments, _| run(arguments))
    }

    /// Adds a function that gets the scope of its call.
    pub(super) fn with_scope<A, R, F>(
        mut self,
        info: &'static FunctionInfo,
        run: impl Fn(A, Arc<CallScope>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: Message,
        R: Message,
        F: Future<Output = R> + Send + 'static,
    {
        let begin = move |call: &mut Incoming<'_>| {
            let arguments = call.arguments(|body| {
                let mut decoder = Decoder::new(body);
                let arguments = (codec::<A>().decode)(&mut decoder)?;
                decoder.finish(type_name::<A>())?;
                Ok(arguments)
            })?;
            let scope = call.scope.get();
            Ok(Box::pin(RunningFuture(Box::pin(run(arguments, scope)))) as Pin<Box<dyn Running>>)
        };
        self.functions.insert(info.id(), Box::new(begin));
        self.names.push(info.name().to_owned());
        if info.no_cancel {
            self.lasting.insert(info.id());
        }
        self
    }
}

impl Session for Functions {
    fn call(
        &self,
        mut call: Incoming<'_>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let Some(begin) = self.functions.get(&call.function) else {
            answering.refuse(&Refusal::UnknownFunction { offers: self.names.clone() });
            return None;
        };
        match begin(&mut call) {
            Ok(mut running) => {
                let polled = running.as_mut().poll_answer(cx, answering);
                polled.is_pending().then_some(running)
            }
            Err(error) => {
                answering.refuse(&Refusal::Undecodable { why: error.to_string() });
                None
            }
        }
    }

    fn may_cancel(&self, function: FunctionId) -> bool {
        !self.lasting.contains(&function)
    }

    fn describe(&self, function: FunctionId) -> String {
        format!("function {function}")
    }

    #[cfg(feature = "tracing")]
    fn function_name(&self, function: FunctionId) -> String {
        function.to_string()
    }

    #[cfg(feature = "tracing")]
    fn worker_name(&self) -> &str {
        "Scripted"
    }
}

struct RunningFuture<F>(Pin<Box<F>>);

impl<F: Future<Output: Message> + Send> Running for RunningFuture<F> {
    fn poll_answer(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Poll<()> {
        let result = ready!(self.0.as_mut().poll(cx));
        answering.result(plain(codec()), result);
        Poll::Ready(())
    }
}

/// Makes one end of a connection before its handshake.
pub(super) fn opening((reader, writer): (impl Reader, impl Writer), settings: Settings) -> Opening {
    let halves: (Box<dyn Reader>, Box<dyn Writer>) = (Box::new(reader), Box::new(writer));
    // In tests each end has its own counters, because tests share the process.
    let traffic = if cfg!(test) { Box::leak(Box::default()) } else { Traffic::here() };
    Opening::counted_by(traffic, halves, settings)
}

/// Connects a client to a peer that accepts it.
pub(super) async fn client(here: (impl Reader, impl Writer), settings: Settings) -> Client {
    try_client(here, settings).await.expect("the peer accepts the connection")
}

/// Connects a client, unless it is refused.
pub(super) async fn try_client(
    here: (impl Reader, impl Writer),
    settings: Settings,
) -> Result<Client, OpeningError> {
    client_of_process(here, settings, ProcessAccess::none()).await
}

/// Connects a client that has access to the process of its peer, unless it is refused.
pub(super) async fn client_of_process(
    here: (impl Reader, impl Writer),
    settings: Settings,
    process_access: ProcessAccess,
) -> Result<Client, OpeningError> {
    let mut opening = opening(here, settings);
    let id = WorkerId::random();
    let request = encode_request(id, Greeting::new(&[]), &[], settings)?;
    opening.connect(&request).await?;
    let (worker_type, host) = ("Scripted".to_owned(), "here".to_owned());
    let label = WorkerLabel { name: None, worker_type, pid: None, host };
    Ok(Client::begin(opening, id, label, process_access))
}

/// Calls a function.
pub(super) fn call<A: Message, R: Message>(
    client: &Client,
    function: &'static FunctionInfo,
    arguments: A,
) -> Call<R> {
    Call::new(client, function, plain(codec()), |sink| (codec::<A>().encode)(&arguments, sink))
}
