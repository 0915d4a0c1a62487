//! A receiver over HTTP/1.1 that follows a script.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What the receiver does with one request.
pub(super) enum Reply {
    /// Answers.
    Status(u16, &'static str, Vec<u8>),
    /// Answers late.
    Slow(Duration),
    /// Never answers.
    Silence,
    /// Closes the connection.
    Cut,
}

impl Reply {
    pub(super) fn status(status: u16) -> Reply {
        Reply::Status(status, "", Vec::new())
    }
}

#[derive(Debug)]
pub(super) struct Received {
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Log {
    received: Vec<Received>,
    script: VecDeque<Reply>,
    under_way: usize,
    most_under_way: usize,
}

/// Lives until the process ends.
pub(super) struct Receiver {
    pub(super) port: u16,
    log: Arc<(Mutex<Log>, Condvar)>,
}

/// Makes the connection what the receiver speaks over; `None` if that fails.
type Wrap = dyn Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync;

pub(super) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Receiver {
    /// Follows the script, then takes everything.
    pub(super) fn start(script: impl IntoIterator<Item = Reply>) -> Receiver {
        Receiver::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(super) fn on(listener: TcpListener, script: impl IntoIterator<Item = Reply>) -> Receiver {
        Receiver::wrapped(listener, script, Box::new(|stream| Some(Box::new(stream))))
    }

    pub(super) fn wrapped(
        listener: TcpListener,
        script: impl IntoIterator<Item = Reply>,
        wrap: Box<Wrap>,
    ) -> Receiver {
        let port = listener.local_addr().unwrap().port();
        let log = Arc::<(Mutex<Log>, Condvar)>::default();
        log.0.lock().unwrap().script.extend(script);
        let of_thread = Arc::clone(&log);
        let wrap: Arc<Wrap> = wrap.into();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&of_thread);
                let wrap = Arc::clone(&wrap);
                thread::spawn(move || {
                    if let Some(stream) = wrap(stream) {
                        serve(stream, &log);
                    }
                });
            }
        });
        Receiver { port, log }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until so many requests have come.
    pub(super) fn wait_for(&self, requests: usize) {
        let (log, changed) = &*self.log;
        let log = log.lock().unwrap();
        let waited = changed
            .wait_timeout_while(log, Duration::from_secs(10), |log| {
                log.received.len() < requests
            })
            .unwrap();
        assert!(
            !waited.1.timed_out(),
            "{} requests",
            waited.0.received.len()
        );
    }

    /// Takes what has come.
    pub(super) fn received(&self) -> Vec<Received> {
        std::mem::take(&mut self.log.0.lock().unwrap().received)
    }

    pub(super) fn most_under_way(&self) -> usize {
        self.log.0.lock().unwrap().most_under_way
    }
}

fn serve(stream: Box<dyn Stream>, log: &(Mutex<Log>, Condvar)) {
    let mut stream = BufReader::new(stream);
    while let Some(received) = read(&mut stream) {
        let reply = {
            let mut state = log.0.lock().unwrap();
            state.received.push(received);
            state.under_way += 1;
            state.most_under_way = state.most_under_way.max(state.under_way);
            log.1.notify_all();
            let reply = state.script.pop_front();
            reply.unwrap_or_else(|| Reply::status(200))
        };
        let answer = match reply {
            Reply::Status(status, headers, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n");
                Some([head.into_bytes(), body].concat())
            }
            Reply::Slow(time) => {
                thread::sleep(time);
                Some(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n".to_vec())
            }
            Reply::Silence => {
                thread::park();
                None
            }
            Reply::Cut => None,
        };
        log.0.lock().unwrap().under_way -= 1;
        let Some(answer) = answer else { return };
        if stream.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?;
    let mut body = vec![0; length.1.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(Received {
        path,
        headers,
        body,
    })
}
