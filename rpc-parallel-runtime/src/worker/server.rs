//! A worker server: the state of a worker, and the sessions of its connections.

use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "pool")]
use std::sync::Weak;
use std::task::Context as TaskContext;

#[cfg(feature = "pool")]
use tokio::runtime::Handle;

#[cfg(feature = "pool")]
use super::bound_function::BoundFunction;
use super::builtin;
use super::context::{Context, ServerInfo};
use super::declares::WorkerClient;
use super::dispatch::{Dispatch, Scope};
use super::function_index::FunctionIndex;
#[cfg(feature = "pool")]
use super::items::{Computing, ItemFunction, ItemRun, MapRequest, Work, run_items};
#[cfg(feature = "pool")]
use super::processes::Processes;
#[cfg(feature = "pool")]
use super::registration::process_functions::find_process;
use super::serves::{Boxed, InitError, Serves};
use super::state::{BoxError, ConnectionState, OneWorkerTraitPerType, Served};
use super::worker_type::WorkerType;
use crate::connection::{Answering, AnyError, Incoming, Running, Session, catch_future};
use crate::wire::{
    FunctionId, PanicReport, Refusal, Settings, Signature, SourceLocation, WorkerId, WorkerLabel,
    decode, worker_type_id,
};
#[cfg(feature = "pool")]
use crate::wire::{Sink, encode};

impl WorkerType {
    /// Describes the worker type `S`, whose servers `start_server` starts.
    #[doc(hidden)]
    #[must_use]
    pub const fn new<S: Served>(
        name: &'static str,
        worker_trait: &str,
        place: SourceLocation,
    ) -> Self {
        Self {
            id: worker_type_id(name, worker_trait, &place),
            name,
            place,
            worker_trait: S::Client::WORKER_TRAIT,
            functions: S::Client::functions,
            start: start_server::<S>,
        }
    }
}

struct Server<S: Served> {
    id: WorkerId,
    label: Arc<WorkerLabel>,
    state: Arc<S>,
    functions: Arc<FunctionIndex>,
    #[cfg(feature = "pool")]
    maps: MapServer,
}

/// What a connection needs to run a map on the runtime of a server.
#[cfg(feature = "pool")]
#[derive(Clone)]
struct MapServer {
    /// The runtime on which all user code of the server runs.
    runtime: Handle,
    /// It must not be dropped on another runtime, which a strong reference might do.
    server: Weak<dyn Serves>,
}

type Connection<S> = <<S as OneWorkerTraitPerType>::Client as WorkerClient>::Connection;

/// Returns the index of the dispatch table of a worker type.
fn index<S: Served>() -> FunctionIndex {
    let table = <S::Client as Dispatch<S>>::table();
    FunctionIndex::new(table.iter().map(|it| it.info()).collect())
}

fn start_server<S: Served>(
    id: WorkerId,
    label: WorkerLabel,
    init: Vec<u8>,
) -> Boxed<Result<Arc<dyn Serves>, InitError>> {
    Box::pin(async move {
        let init = decode::<S::Init>(&init).map_err(undecodable)?;
        let state = Arc::new(run_init(S::init(init)).await?);
        let (label, functions) = (Arc::new(label), Arc::new(index::<S>()));
        #[cfg(not(feature = "pool"))]
        let server = Arc::new(Server { id, label, state, functions });
        #[cfg(feature = "pool")]
        let server = Arc::new_cyclic(|server: &Weak<Server<S>>| {
            let maps = MapServer { runtime: Handle::current(), server: server.clone() };
            Server { id, label, state, functions, maps }
        });
        Ok(server as Arc<dyn Serves>)
    })
}

async fn run_init<T>(init: impl Future<Output = Result<T, BoxError>>) -> Result<T, InitError> {
    match catch_future(init).await {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(error)) => Err(InitError::Failed { why: AnyError::of(&*error).to_string() }),
        Err(panic) => Err(InitError::Panicked(panic)),
    }
}

fn undecodable(error: crate::wire::DecodeError) -> InitError {
    InitError::Undecodable { why: AnyError::from(error).to_string() }
}

impl<S: Served> Server<S> {
    fn info(&self, settings: Settings) -> ServerInfo {
        let (worker_type, label) = (S::WORKER_TYPE, self.label.clone());
        ServerInfo { id: self.id, worker_type, label, settings }
    }

    /// Creates the state of a connection, and the scope of its functions.
    async fn connection_scope(
        &self,
        init: <Connection<S> as ConnectionState<S>>::Init,
        settings: Settings,
    ) -> Result<Scope<S, Connection<S>>, InitError> {
        let state = run_init(Connection::<S>::init(&self.state, init)).await?;
        Ok(Scope::new(self.state.clone(), Context::new(state, self.info(settings))))
    }

    /// Finds a function for a map. Creates `scope` if the function needs it and it is `None`.
    #[cfg(feature = "pool")]
    async fn item_function(
        &self,
        function: FunctionId,
        settings: Settings,
        scope: &mut Option<Scope<S, Connection<S>>>,
    ) -> Result<Box<dyn ItemFunction>, Refusal> {
        let Some(at) = self.functions.find(function) else {
            let unknown = || Refusal::UnknownFunction { offers: self.functions.names() };
            let handle = find_process(function).ok_or_else(unknown)?;
            let scope = Processes::scope(self.info(settings));
            return Ok(Box::new(BoundFunction { handle, scope }));
        };
        let scope = match scope {
            Some(scope) => scope,
            None => {
                let mut init = Vec::new();
                encode(&(), &mut Sink::new(&mut init, usize::MAX)).expect("`()` can be encoded");
                // Only clients whose connection needs no argument run maps.
                let init = decode(&init).map_err(undecodable)?;
                scope.insert(self.connection_scope(init, settings).await?)
            }
        };
        let handle = <S::Client as Dispatch<S>>::table()[at];
        Ok(Box::new(BoundFunction { handle, scope: scope.clone() }))
    }
}

impl<S: Served> Serves for Server<S> {
    fn connect(
        self: Arc<Self>,
        init: Vec<u8>,
        settings: Settings,
    ) -> Boxed<Result<Arc<dyn Session>, InitError>> {
        Box::pin(async move {
            let init = decode::<<Connection<S> as ConnectionState<S>>::Init>(&init);
            let scope = self.connection_scope(init.map_err(undecodable)?, settings).await?;
            let (label, functions) = (self.label.clone(), self.functions.clone());
            let session = ServerSession { id: self.id, label, scope, functions };
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }

    fn connect_control(&self, settings: Settings) -> Arc<dyn Session> {
        #[cfg(not(feature = "pool"))]
        let _ = settings;
        Arc::new(ControlSession {
            id: self.id,
            label: self.label.clone(),
            #[cfg(feature = "pool")]
            settings,
            #[cfg(feature = "pool")]
            maps: self.maps.clone(),
        })
    }

    #[cfg(feature = "pool")]
    fn run_items(
        self: Arc<Self>,
        request: MapRequest,
        settings: Settings,
        run: Arc<ItemRun>,
    ) -> Computing {
        Box::pin(async move {
            let MapRequest { function, combine, concurrency, .. } = request;
            // The functions of one map share the state of one connection.
            let mut scope = None;
            let functions = run.unless_closed(async {
                let function = self.item_function(function, settings, &mut scope).await?;
                let combine = match combine {
                    Some(combine) => Some(self.item_function(combine, settings, &mut scope).await?),
                    None => None,
                };
                Ok::<_, Refusal>((function, combine))
            });
            let Some((function, combine)) = functions.await.transpose()? else { return Ok(()) };
            drop(scope);
            run_items(Work { function, combine, concurrency, run }).await
        })
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
    #[cfg(feature = "pool")]
    settings: Settings,
    #[cfg(feature = "pool")]
    maps: MapServer,
}

#[cfg(feature = "pool")]
impl ControlSession {
    fn begin_map(
        &self,
        call: Incoming<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        let (MapServer { runtime, server }, settings) = (self.maps.clone(), self.settings);
        builtin::begin_map(call, answering, settings, runtime, move |request, run| {
            Box::pin(async move {
                let server = server.upgrade().ok_or(Refusal::NoSuchWorker)?;
                server.run_items(request, settings, run).await
            })
        })
    }
}

impl Session for ControlSession {
    fn call(
        &self,
        call: Incoming<'_>,
        _: &mut TaskContext<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>> {
        #[cfg(feature = "pool")]
        if call.function == builtin::MAP.id() {
            return self.begin_map(call, answering);
        }
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
