//! A worker server: the state of a worker, and the sessions of its connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context as TaskContext;

use super::builtin;
use super::context::{Context, ServerInfo};
use super::declares::WorkerClient;
use super::dispatch::{Dispatch, Scope};
use super::function_index::FunctionIndex;
use super::state::{ConnectionState, Served};
use crate::connection::{Answering, AnyError, Incoming, Running, Session, catch_future};
use crate::wire::{
    FunctionId, PanicReport, Refusal, Settings, Signature, WorkerId, WorkerLabel, decode, fields,
};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A function that starts a server of one worker type: it runs `init` of the state.
pub(crate) type StartServer =
    fn(WorkerId, WorkerLabel, Vec<u8>) -> Boxed<Result<Arc<dyn Serves>, InitError>>;

/// The `init` of a worker or of a connection returned no state.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum InitError {
    /// `init` returned an error with this text.
    Failed { why: String },
    /// `init` panicked.
    Panicked(PanicReport),
    /// The argument of `init` could not be decoded.
    Undecodable { why: String },
}

fields!(enum InitError { 0 => Failed { why }, 1 => Panicked(panic), 2 => Undecodable { why } });

/// A server of any worker type.
pub(crate) trait Serves: Send + Sync {
    /// Begins a session for a new connection with these settings.
    fn connect(
        self: Arc<Self>,
        init: Vec<u8>,
        settings: Settings,
    ) -> Boxed<Result<Arc<dyn Session>, InitError>>;

    /// Begins a session for a connection that calls built-in functions only.
    fn connect_control(&self) -> Arc<dyn Session>;

    /// Returns the signatures of its functions, to compare them with those of another program.
    fn signatures(&self) -> Vec<Signature>;

    /// Runs `on_shutdown` of its state.
    ///
    /// # Errors
    ///
    /// `on_shutdown` panicked.
    fn shut_down(self: Arc<Self>) -> Boxed<Result<(), PanicReport>>;
}

struct Server<S: Served> {
    id: WorkerId,
    label: Arc<WorkerLabel>,
    state: Arc<S>,
    functions: Arc<FunctionIndex>,
}

type Connection<S> = <<S as super::OneWorkerTraitPerType>::Client as WorkerClient>::Connection;

/// Returns the index of the dispatch table of a worker type.
fn index<S: Served>() -> FunctionIndex {
    let table = <S::Client as Dispatch<S>>::table();
    FunctionIndex::new(table.iter().map(|it| it.info()).collect())
}

pub(super) fn start_server<S: Served>(
    id: WorkerId,
    label: WorkerLabel,
    init: Vec<u8>,
) -> Boxed<Result<Arc<dyn Serves>, InitError>> {
    Box::pin(async move {
        let init = decode::<S::Init>(&init).map_err(undecodable)?;
        let state = Arc::new(run_init(S::init(init)).await?);
        let (label, functions) = (Arc::new(label), Arc::new(index::<S>()));
        Ok(Arc::new(Server { id, label, state, functions }) as Arc<dyn Serves>)
    })
}

async fn run_init<T>(
    init: impl Future<Output = Result<T, super::BoxError>>,
) -> Result<T, InitError> {
    match catch_future(init).await {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(error)) => Err(InitError::Failed { why: AnyError::of(&*error).to_string() }),
        Err(panic) => Err(InitError::Panicked(panic)),
    }
}

fn undecodable(error: crate::wire::DecodeError) -> InitError {
    InitError::Undecodable { why: AnyError::from(error).to_string() }
}

impl<S: Served> Serves for Server<S> {
    fn connect(
        self: Arc<Self>,
        init: Vec<u8>,
        settings: Settings,
    ) -> Boxed<Result<Arc<dyn Session>, InitError>> {
        Box::pin(async move {
            let init = decode::<<Connection<S> as ConnectionState<S>>::Init>(&init);
            let init = init.map_err(undecodable)?;
            let state = run_init(Connection::<S>::init(&self.state, init)).await?;
            let server = ServerInfo {
                id: self.id,
                worker_type: S::WORKER_TYPE,
                label: self.label.clone(),
                settings,
            };
            let scope = Scope::new(self.state.clone(), Context::new(state, server));
            let (label, functions) = (self.label.clone(), self.functions.clone());
            let session = ServerSession { id: self.id, label, scope, functions };
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }

    fn connect_control(&self) -> Arc<dyn Session> {
        Arc::new(ControlSession { id: self.id, label: self.label.clone() })
    }

    fn signatures(&self) -> Vec<Signature> {
        self.functions.signatures()
    }

    fn shut_down(self: Arc<Self>) -> Boxed<Result<(), PanicReport>> {
        Box::pin(async move { catch_future(self.state.on_shutdown()).await })
    }
}

/// One connection to a server.
struct ServerSession<S: Served> {
    id: WorkerId,
    label: Arc<WorkerLabel>,
    scope: Scope<S, Connection<S>>,
    functions: Arc<FunctionIndex>,
}

impl<S: Served> Session for ServerSession<S> {
    fn call(
        &self,
        call: Incoming<'_>,
        cx: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        if let Some(at) = self.functions.find(call.function) {
            let handle = <S::Client as Dispatch<S>>::table()[at];
            return handle.call(&self.scope, call, cx, answering);
        }
        if builtin::answer((self.id, &self.label), call, answering).is_some() {
            answering.refuse(&Refusal::UnknownFunction { offers: self.functions.names() });
        }
        None
    }

    fn may_cancel(&self, function: FunctionId) -> bool {
        self.functions.may_cancel(function)
    }

    fn describe(&self, function: FunctionId) -> String {
        self.functions.describe(&self.label, function)
    }

    #[cfg(feature = "tracing")]
    fn function_name(&self, function: FunctionId) -> String {
        match self.functions.info(function) {
            Some(info) => format!("{}::{}", info.worker_trait(), info.name()),
            None => builtin::name(function).unwrap_or_else(|| function.to_string()),
        }
    }

    #[cfg(feature = "tracing")]
    fn worker_name(&self) -> &str {
        self.label.name().unwrap_or(self.label.worker_type())
    }
}

/// A connection to a server that calls built-in functions only.
struct ControlSession {
    id: WorkerId,
    label: Arc<WorkerLabel>,
}

impl Session for ControlSession {
    fn call(
        &self,
        call: Incoming<'_>,
        _: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        if builtin::answer((self.id, &self.label), call, answering).is_some() {
            answering.refuse(&Refusal::UnknownFunction { offers: Vec::new() });
        }
        None
    }

    fn may_cancel(&self, _: FunctionId) -> bool {
        true
    }

    fn is_counted(&self) -> bool {
        false
    }

    fn describe(&self, function: FunctionId) -> String {
        format!("{}: one-way function {function}", self.label)
    }

    #[cfg(feature = "tracing")]
    fn function_name(&self, function: FunctionId) -> String {
        builtin::name(function).unwrap_or_else(|| function.to_string())
    }

    #[cfg(feature = "tracing")]
    fn worker_name(&self) -> &str {
        self.label.name().unwrap_or(self.label.worker_type())
    }
}
