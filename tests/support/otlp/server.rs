//! The thread and the runtime of the receiver, and what its services share.

use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

use super::answer::Script;
use super::connection::{Connection, Io, Link};
use super::tls::Acceptor;
use super::{Answer, Request, Signal};

/// What was received, and what will be answered.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) requests: Vec<Request>,
    pub(super) taken_spans: usize,
    pub(super) connections: usize,
    pub(super) open_connections: usize,
    pub(super) traces: Script,
    pub(super) metrics: Script,
}

impl State {
    pub(super) fn script(&mut self, signal: Signal) -> &mut Script {
        match signal {
            Signal::Traces => &mut self.traces,
            Signal::Metrics => &mut self.metrics,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.lock())
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Says whether it was done in time.
    pub(super) fn wait_until(&self, until: Instant, done: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !done(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Keeps a request, waits as the script wants, and returns what to say.
    pub(super) async fn receive(&self, mut request: Request, link: &Link) -> Answer {
        let (brought, signal) = (request.len(), request.signal());
        let (index, answer) = self.change(|state| {
            request.answer = state.script(signal).take();
            let answer = request.answer.clone();
            state.requests.push(request);
            (state.requests.len() - 1, answer)
        });
        let taken = match answer {
            Answer::Accept => brought,
            Answer::Partial { rejected, .. } => brought.saturating_sub(rejected),
            Answer::Delay(time) => {
                tokio::time::sleep(time).await;
                brought
            }
            Answer::Silence => std::future::pending().await,
            Answer::Cut => {
                link.cut();
                0
            }
            Answer::Refuse { .. } | Answer::RetryAfter(_) => 0,
        };
        self.change(|state| {
            // Gone if the test has cleared them.
            if let Some(request) = state.requests.get_mut(index) {
                request.taken = taken;
                if signal == Signal::Traces {
                    state.taken_spans += taken;
                }
            }
        });
        answer
    }
}

/// A port, and the thread that serves it at times.
pub(super) struct Listener {
    /// Bound but never listening, so that nobody else gets the port while the receiver is down.
    reserved: TcpSocket,
    routes: Router,
    shared: Arc<Shared>,
    tls: Option<Acceptor>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Listener {
    pub(super) fn new(routes: Router, shared: &Arc<Shared>, tls: Option<Acceptor>) -> Listener {
        Listener {
            reserved: bind(0),
            routes,
            shared: Arc::clone(shared),
            tls,
            running: None,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.reserved.local_addr().unwrap().port()
    }

    pub(super) fn listen(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        let socket = bind(self.port());
        let (routes, tls) = (self.routes.clone(), self.tls.clone());
        let shared = Arc::clone(&self.shared);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serve = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = socket.listen(1024).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = accept(listener, routes, tls, shared) => {}
                    // Also when the sender is gone.
                    _ = stopped => {}
                }
            });
            // Dropping the runtime drops the connections.
        };
        let thread = std::thread::Builder::new().name("otlp-receiver".to_owned());
        let thread = thread.spawn(serve).unwrap();
        is_ready.recv().expect("the receiver listens");
        self.running = Some((stop, thread));
    }

    pub(super) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().expect("the receiver did not panic");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    socket
}

async fn accept(listener: TcpListener, routes: Router, tls: Option<Acceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        stream.set_nodelay(true).unwrap();
        let link = Arc::new(Link::new(&shared));
        let connection = Connection::new(stream, Arc::clone(&link));
        let routes = routes.clone().layer(Extension(link));
        let tls = tls.clone();
        tokio::spawn(async move {
            let io: Box<dyn Io> = match tls {
                // A client that does not trust the certificate goes away here.
                Some(tls) => match tls.accept(connection).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
                None => Box::new(connection),
            };
            let service = TowerToHyperService::new(routes);
            let builder = Builder::new(TokioExecutor::new());
            // An error here is a client that went away, or a planned cut.
            let _ = builder.serve_connection(TokioIo::new(io), service).await;
        });
    }
}
