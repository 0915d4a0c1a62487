//! Connections that can be cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::server::Shared;

/// What is left of an answer that is cut: less than its status line or first frame.
const BYTES_OF_A_CUT_ANSWER: usize = 8;

/// The wire's part of a connection that its requests know.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: usize,
    cut: AtomicBool,
    left: AtomicUsize,
    shared: Arc<Shared>,
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>) -> Link {
        let number = shared.change(|state| {
            state.connections += 1;
            state.open_connections += 1;
            state.connections - 1
        });
        Link {
            number,
            cut: AtomicBool::new(false),
            left: AtomicUsize::new(BYTES_OF_A_CUT_ANSWER),
            shared: Arc::clone(shared),
        }
    }

    /// Closes the connection once the next few bytes are written.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Returns how much of `length` bytes may be written; `None` once the connection is cut.
    fn allow(&self, length: usize) -> Option<usize> {
        if !self.cut.load(Ordering::Relaxed) {
            return Some(length);
        }
        let left = self.left.load(Ordering::Relaxed);
        let allowed = length.min(left);
        self.left.store(left - allowed, Ordering::Relaxed);
        (allowed > 0).then_some(allowed)
    }
}

/// The bytes of a connection, encrypted or not.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A TCP connection that ends when its [`Link`] says so.
pub(super) struct Connection {
    stream: TcpStream,
    link: Arc<Link>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, link: Arc<Link>) -> Connection {
        Connection { stream, link }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let shared = &self.link.shared;
        shared.change(|state| state.open_connections -= 1);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.link.allow(bytes.len()) {
            Some(allowed) => Pin::new(&mut self.stream).poll_write(context, &bytes[..allowed]),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
