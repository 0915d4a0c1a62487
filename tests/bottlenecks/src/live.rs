//! The live tier: the same programs with real threads, a real runtime, real files, a real database and real connections.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tracing::Dispatch;
use tracing_cortex::{CortexLayer, ProfilingLevel};
use tracing_subscriber::prelude::*;

use crate::interpret;
use crate::outcome::Outcome;
use crate::program::{Form, Program, Reading, Real};
use crate::world::{BoxFuture, World};

/// A program that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs one variant of a case in a process of its own. `arguments` lead the child to [`child`].
pub fn run(arguments: &[String]) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.json");
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child")
        .arg(&report)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > LONGEST {
            child.kill()?;
            child.wait()?;
            return Err(format!("still running after {LONGEST:?}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if !status.success() {
        return Err(format!("the child ended with {status}").into());
    }
    Ok(Outcome::read(&std::fs::read(report)?)?)
}

/// Runs a program in this process and writes the report.
pub fn child(program: &Program, report: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = serve()?;
    let runtime = match program.form {
        Form::Sync => None,
        Form::Tasks(workers) => Some(
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(workers)
                .enable_time()
                .build()?,
        ),
    };
    let world = Arc::new(Machine {
        started: Instant::now(),
        runtime,
        server,
    });
    let targets = program.targets().into_iter();
    let builder = targets.fold(CortexLayer::builder(), |builder, target| {
        builder.target(
            target.site,
            target.percentile,
            Duration::from_nanos(target.limit.0),
        )
    });
    let (layer, guard) = builder
        .level(ProfilingLevel::Detailed)
        .resources(Duration::from_millis(20))
        .report_json(report)
        .build()?;
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::set_global_default(dispatch.clone())?;
    interpret::run(program, Arc::clone(&world) as Arc<dyn World>, dispatch);
    guard.finish()?;
    Ok(())
}

struct Machine {
    started: Instant,
    runtime: Option<tokio::runtime::Runtime>,
    /// The port of the server on this machine.
    server: u16,
}

thread_local! {
    static DATABASE: RefCell<Option<rusqlite::Connection>> = const { RefCell::new(None) };
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

impl World for Machine {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Computes until the thread has used that much CPU time, so that being descheduled does not change the plant.
    fn cpu(&self, length: Duration) {
        let until = cpu_time() + length;
        while cpu_time() < until {
            for _ in 0..64 {
                std::hint::spin_loop();
            }
        }
    }

    fn block(&self, length: Duration) {
        std::thread::sleep(length);
    }

    fn timer(&self, length: Duration) -> BoxFuture<'static> {
        Box::pin(tokio::time::sleep(length))
    }

    fn block_on(&self, mut future: BoxFuture<'_>) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        while future.as_mut().poll(&mut context) == Poll::Pending {
            std::thread::park();
        }
    }

    fn start_thread(&self, run: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(run);
    }

    fn start_task(&self, task: BoxFuture<'static>) {
        let runtime = self
            .runtime
            .as_ref()
            .expect("tasks are in programs with a runtime");
        runtime.spawn(task);
    }

    fn add(&self, _: Reading, _: f64) {}

    fn real(&self, what: &Real, length: Duration) {
        let until = Instant::now() + length;
        let done = match what {
            Real::Sql(text) => query(text).map_err(|error| error.to_string()),
            Real::Write(bytes) => write(*bytes).map_err(|error| error.to_string()),
            Real::Sync => sync().map_err(|error| error.to_string()),
            Real::Get(bytes) => get(self.server, *bytes, length).map_err(|error| error.to_string()),
        };
        if let Err(error) = done {
            eprintln!("{what:?}: {error}");
            std::process::exit(1);
        }
        match what {
            Real::Sql(_) | Real::Sync => {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            // As on a disk that is slower than memory.
            Real::Write(_) => {
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            Real::Get(_) => {}
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .expect("a thread may read its own clock")
}

fn query(text: &str) -> rusqlite::Result<()> {
    DATABASE.with_borrow_mut(|database| {
        if database.is_none() {
            let opened = rusqlite::Connection::open_in_memory()?;
            opened.execute_batch(
                "create table items (id integer primary key, owner integer, name text);
                 with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)
                 insert into items select i, i % 50, 'item ' || i from n;",
            )?;
            *database = Some(opened);
        }
        let database = database.as_ref().expect("opened above");
        let mut statement = database.prepare_cached(text)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    })
}

fn file<T>(work: impl FnOnce(&mut File) -> std::io::Result<T>) -> std::io::Result<T> {
    FILE.with_borrow_mut(|file| {
        if file.is_none() {
            *file = Some(tempfile::tempfile_in(".")?);
        }
        work(file.as_mut().expect("opened above"))
    })
}

fn write(bytes: usize) -> std::io::Result<()> {
    file(|file| file.write_all(&vec![7; bytes]))
}

fn sync() -> std::io::Result<()> {
    file(|file| file.sync_data())
}

/// Starts a server that answers each line "<microseconds> <bytes>" after that time with so many bytes.
fn serve() -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut request = [0_u8; 16];
    loop {
        stream.read_exact(&mut request).ok()?;
        let (micros, bytes) = request.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        std::thread::sleep(Duration::from_micros(number(micros)?));
        stream.write_all(&vec![7; number(bytes)? as usize]).ok()?;
    }
}

fn get(port: u16, bytes: usize, after: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut request = (after.as_micros() as u64).to_le_bytes().to_vec();
    request.extend_from_slice(&(bytes as u64).to_le_bytes());
    stream.write_all(&request)?;
    stream.read_exact(&mut vec![0; bytes])
}
