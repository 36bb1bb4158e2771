//! Bodies and waits with a limit on silence.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// Why a body broke off. hyper then closes the connection, so the receiver sees that the body is incomplete.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// Nothing arrived within the limit.
#[derive(Debug, thiserror::Error)]
#[error("nothing arrived for {} s", .0.as_secs_f64())]
pub(crate) struct Stalled(Duration);

impl Stalled {
    /// Whether `error` was caused by a stalled body.
    pub(crate) fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// The receiver waits no longer.
#[derive(Debug, thiserror::Error)]
#[error("the time that the client allows is over")]
pub(crate) struct Late;

/// A body that fails if no piece arrives within a time limit.
pub(crate) struct Idle<B> {
    body: B,
    time: Duration,
    deadline: Option<Instant>,
    /// Created at the first wait, and reset for each further wait.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<B> Idle<B> {
    /// `body` with the limit `time` for each piece.
    pub(crate) const fn new(body: B, time: Duration) -> Self {
        Self {
            body,
            time,
            deadline: None,
            timer: None,
            is_waiting: false,
        }
    }

    /// The same, and no wait lasts longer than up to `deadline`.
    pub(crate) fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.time)));
        if !self.is_waiting {
            self.is_waiting = true;
            let end = Instant::now() + self.time;
            timer
                .as_mut()
                .reset(self.deadline.map_or(end, |deadline| deadline.min(end)));
        }
        timer.as_mut().poll(cx)
    }
}

impl<B> Body for Idle<B>
where
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.poll_timer(cx));
        let is_late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        Poll::Ready(Some(Err(if is_late {
            Late.into()
        } else {
            Stalled(self.time).into()
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The output of `future`. Fails if the count `sent` does not grow for `time`. What arrives does not count: a server could
/// send interim responses without end. Reusing a `timer` is cheaper than creating one.
pub(super) async fn while_sending<F: Future>(
    future: F,
    time: Duration,
    timer: &mut Option<Pin<Box<Sleep>>>,
    sent: &AtomicU64,
) -> Result<F::Output, Stalled> {
    let mut future = pin!(future);
    let mut active = Instant::now();
    let mut known = sent.load(Ordering::Relaxed);
    let timer = timer.get_or_insert_with(|| Box::pin(sleep(time)));
    timer.as_mut().reset(active + time);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let now = sent.load(Ordering::Relaxed);
        if now != known {
            known = now;
            active = Instant::now();
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if active.elapsed() >= time {
            return Poll::Ready(Err(Stalled(time)));
        }
        timer.as_mut().reset(active + time);
        timer.as_mut().poll(cx).map(|()| Err(Stalled(time)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_secs(9);

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_nothing_happens() {
        let sent = AtomicU64::new(0);
        let never = std::future::pending::<()>();
        assert!(while_sending(never, TIME, &mut None, &sent).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_prolongs_a_wait_and_what_arrives_does_not() {
        let sent = AtomicU64::new(0);
        let steps = async |bytes| {
            for _ in 0..5 {
                sleep(STEP).await;
                sent.fetch_add(bytes, Ordering::Relaxed);
            }
        };
        assert!(while_sending(steps(1), TIME, &mut None, &sent).await.is_ok());
        let start = Instant::now();
        assert!(while_sending(steps(0), TIME, &mut None, &sent).await.is_err());
        assert_eq!(start.elapsed(), TIME);
    }
}
