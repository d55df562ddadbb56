//! A client connection that waits neither for ever for its client to read, nor closes on a client that still sends.
use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::connections::Seat;

/// How long what a client still sends is read after the last answer. Closing on unread bytes resets the connection, and the
/// client may never see why.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes that are read meanwhile.
const LINGER_BYTES: usize = 1 << 20;
const CHUNK: usize = 4_096;

/// A stream whose writes fail once they have stood still for `patience`.
///
/// Reads need no limit here: header blocks and bodies have their own.
pub(crate) struct Connection<S> {
    stream: TokioIo<S>,
    patience: Duration,
    /// Runs while a write stands still.
    stalled: Option<Pin<Box<Sleep>>>,
    seat: Rc<Seat>,
    end: End,
}

/// How far it is closed.
enum End {
    Open,
    /// Nothing is sent any more; so many bytes of what still comes are thrown away.
    Lingering {
        left: usize,
        until: Option<Pin<Box<Sleep>>>,
    },
    Closed,
}

impl<S> Connection<S> {
    pub(crate) fn new(stream: S, patience: Duration, seat: Rc<Seat>) -> Self {
        Self { stream: TokioIo::new(stream), patience, stalled: None, seat, end: End::Open }
    }

    fn bounded<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.stalled.take().is_some() {
                self.seat.set_stalled(false);
            }
            return progress;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        self.seat.set_stalled(true);
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        // Also at its end, where lingering is over at once.
        self.seat.set_unread(true);
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, progress)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.end {
                End::Open => {
                    let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
                    ready!(this.bounded(cx, shut))?;
                    let lingers = this.seat.unread();
                    this.end = if lingers { End::Lingering { left: LINGER_BYTES, until: None } } else { End::Closed };
                }
                End::Lingering { left, until } => {
                    let mut chunk = [0; CHUNK];
                    let mut chunk = ReadBuf::new(&mut chunk);
                    match Pin::new(this.stream.inner_mut()).poll_read(cx, &mut chunk) {
                        Poll::Ready(Ok(())) if !chunk.filled().is_empty() && *left > CHUNK => *left -= CHUNK,
                        Poll::Ready(_) => this.end = End::Closed,
                        Poll::Pending => {
                            let until = until.get_or_insert_with(|| Box::pin(sleep(LINGER)));
                            ready!(until.as_mut().poll(cx));
                            this.end = End::Closed;
                        }
                    }
                }
                End::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bounded(cx, progress)
    }
}
