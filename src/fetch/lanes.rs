//! Schedules the connections that fetch one file, and the part that each of them fetches.
//!
//! A download begins with one connection. If the file is large and the server serves ranges, connections are added as long as each doubling
//! raises the throughput by a fifth; one connection is enough for a link that it fills. The remaining bytes are handed out in pieces that
//! shrink towards the end. A connection that is much slower than the others is closed, and its remaining bytes are requested again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::retry::Fault;
use super::silence_of;
use super::transfer::{Lane, Opened, Ranges, Source, Transfer};
use crate::progress::{QUIET, unless_quiet};

const TICK: Duration = Duration::from_millis(100);
/// Smaller files are complete before a second connection is up to speed.
const LARGE: u64 = 64 * MIB;
const SMALLEST_PIECE: u64 = 4 * MIB;
const LARGEST_PIECE: u64 = 64 * MIB;
const MOST_LANES: usize = 8;
/// The faults and re-requests of single lanes after which a run gives up the source.
const MOST_STRIKES: u32 = 16;
const MIB: u64 = 1024 * 1024;

/// Fetches all missing bytes from `source`, on as many connections as raise the throughput.
pub(super) async fn run(transfer: &Transfer<'_>, source: &Source<'_>) -> Result<(), Fault> {
    let gaps = transfer.plan().gaps();
    if gaps.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let gap = gaps.and_then(|gaps| gaps.into_iter().next());
    let (id, silence) = (&transfer.request.id, silence_of(source.url));
    let first = unless_quiet(transfer.progress, id, &silence, transfer.open(source, gap)).await?;
    drive(transfer, source, first).await
}

/// Reads `first` to its end, and the rest on further connections.
async fn drive(transfer: &Transfer<'_>, source: &Source<'_>, first: Opened) -> Result<(), Fault> {
    let mut scheduler = LaneScheduler {
        transfer,
        source,
        lanes: Vec::new(),
        running: FuturesUnordered::new(),
        tuner: Tuner::default(),
        is_parallel: false,
        heard: (0, Instant::now()),
        is_quiet: false,
        best_rate: 0.0,
        strikes: 0,
        next_id: 0,
    };
    scheduler.start(first.range(), Some(first));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            finished = scheduler.running.next() => match finished {
                Some((id, outcome)) => scheduler.finished(id, outcome)?,
                None => return Ok(()),
            },
            now = ticks.tick() => scheduler.tick(now),
        }
    }
}

struct Member {
    id: u64,
    lane: Arc<Lane>,
    /// The position that the response would reach if it were read to its end.
    body_end: u64,
    abort: AbortHandle,
    started: Instant,
    first_position: u64,
    last_position: u64,
    /// Bytes a second, smoothed over some seconds.
    rate: f64,
}

/// The end of a lane: complete, failed, or aborted for being slow.
type LaneEnd = Result<Result<(), Fault>, futures_util::future::Aborted>;

struct LaneScheduler<'a> {
    transfer: &'a Transfer<'a>,
    source: &'a Source<'a>,
    lanes: Vec<Member>,
    running: FuturesUnordered<BoxFuture<'a, (u64, LaneEnd)>>,
    tuner: Tuner,
    /// Whether there was ever more than one lane to compare with.
    is_parallel: bool,
    /// The number of received bytes, and when it last changed.
    heard: (u64, Instant),
    /// Whether the server's silence is shown.
    is_quiet: bool,
    /// The highest rate of any lane so far.
    best_rate: f64,
    strikes: u32,
    next_id: u64,
}

impl<'a> LaneScheduler<'a> {
    fn start(&mut self, range: Range<u64>, opened: Option<Opened>) {
        let id = self.next_id;
        self.next_id += 1;
        let lane = Arc::new(Lane::new(range.clone()));
        let (abort, registration) = AbortHandle::new_pair();
        self.lanes.push(Member {
            id,
            lane: Arc::clone(&lane),
            body_end: range.end,
            abort,
            started: Instant::now(),
            first_position: range.start,
            last_position: range.start,
            rate: 0.0,
        });
        let (transfer, source) = (self.transfer, self.source);
        let work = async move {
            let opened = match opened {
                Some(opened) => opened,
                None => transfer.open_part(source, &range).await?,
            };
            // A server may send less than the requested range; another lane requests the rest.
            lane.shorten(opened.range().end);
            transfer.pull(opened, &lane).await
        };
        let work = Abortable::new(work, registration);
        self.running.push(Box::pin(async move { (id, work.await) }));
    }

    fn finished(&mut self, id: u64, outcome: LaneEnd) -> Result<(), Fault> {
        self.lanes.retain(|member| member.id != id);
        match outcome {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(fault)) => {
                self.strikes += 1;
                let is_final = matches!(fault, Fault::Fatal(_) | Fault::Changed);
                if is_final || self.lanes.is_empty() || self.strikes > MOST_STRIKES {
                    return Err(fault);
                }
                self.tuner.settle_at(self.lanes.len());
                if matches!(fault, Fault::RangeIgnored) {
                    self.take_back();
                }
            }
        }
        self.fill();
        Ok(())
    }

    /// If the server ignores ranges, lets shortened lanes read on.
    fn take_back(&self) {
        for gap in self.unclaimed() {
            let before = self.lanes.iter().find(|member| member.lane.rest().end == gap.start);
            if let Some(member) = before {
                member.lane.extend(gap.end.min(member.body_end));
            }
        }
    }

    /// Puts idle lanes to work.
    fn fill(&mut self) {
        while self.lanes.len() < self.tuner.width.max(1) {
            let limit = self.transfer.plan().largest_request(self.tuner.width);
            match next_piece(&self.unclaimed(), self.tuner.width) {
                Some(piece) => self.start(piece.start..piece.end.min(piece.start.saturating_add(limit)), None),
                None => return,
            }
        }
    }

    /// Missing ranges without a lane.
    fn unclaimed(&self) -> Vec<Range<u64>> {
        let plan = self.transfer.plan();
        let Some(length) = plan.identity.length else {
            return Vec::new();
        };
        let mut claimed = plan.received.clone();
        self.lanes.iter().for_each(|member| claimed.insert(member.lane.rest()));
        claimed.gaps(length)
    }

    fn tick(&mut self, now: Instant) {
        let (length, transferred, ranges, is_versioned) = {
            let plan = self.transfer.plan();
            let is_versioned = plan.identity.validator.is_some();
            (plan.identity.length, plan.transferred, plan.ranges, is_versioned)
        };
        self.show(now, transferred, length);
        if ranges != Ranges::Served || !is_versioned || length.is_none_or(|length| length < LARGE) {
            return;
        }
        self.measure();
        let all_flow = self
            .lanes
            .iter()
            .all(|member| member.lane.rest().start > member.first_position);
        if let Some(width) = self.tuner.observe(now, transferred, all_flow) {
            self.is_parallel = true;
            self.share_out(width);
            self.fill();
        }
        self.give_up_straggler(now);
    }

    /// Shows the progress, or the server's silence.
    fn show(&mut self, now: Instant, transferred: u64, length: Option<u64>) {
        let (progress, id) = (self.transfer.progress, &self.transfer.request.id);
        if self.heard.0 != transferred || self.transfer.is_writing() {
            self.heard = (transferred, now);
        }
        if now - self.heard.1 < QUIET {
            self.is_quiet = false;
            progress.advance(id, self.transfer.store.on_disk(), length);
        } else if !self.is_quiet {
            self.is_quiet = true;
            progress.wait(id, &silence_of(self.source.url));
        }
    }

    fn measure(&mut self) {
        for member in &mut self.lanes {
            let position = member.lane.rest().start;
            let rate = (position - member.last_position) as f64 / TICK.as_secs_f64();
            member.last_position = position;
            member.rate += (rate - member.rate) * SMOOTHING;
            self.best_rate = self.best_rate.max(member.rate);
        }
    }

    /// Cuts the claims of lanes to one piece each.
    fn share_out(&self, width: usize) {
        for member in &self.lanes {
            let rest = member.lane.rest();
            let piece = piece_size(rest.end.saturating_sub(rest.start), width);
            member.lane.shorten(rest.start.saturating_add(piece));
        }
    }

    fn give_up_straggler(&mut self, now: Instant) {
        if self.strikes >= MOST_STRIKES || !self.is_parallel {
            return;
        }
        let slowest = self.lanes.iter().min_by(|a, b| a.rate.total_cmp(&b.rate));
        let Some(slowest) = slowest.filter(|member| now - member.started >= GRACE) else {
            return;
        };
        // Compared with the other lanes; a single lane is compared with the best rate so far.
        let reference = self
            .lanes
            .iter()
            .filter(|member| member.id != slowest.id)
            .map(|member| member.rate)
            .reduce(f64::max)
            .unwrap_or(self.best_rate);
        if slowest.rate * STRAGGLING < reference {
            slowest.abort.abort();
            self.strikes += 1;
        }
    }
}

/// Weight of the newest tick in a lane's rate.
const SMOOTHING: f64 = 0.1;
/// The factor by which a lane may be slower than the best of the others.
const STRAGGLING: f64 = 8.0;
/// The time for a lane to get up to speed.
const GRACE: Duration = Duration::from_secs(3);

/// The next piece to hand out: from the start of the first range without a lane.
fn next_piece(unclaimed: &[Range<u64>], width: usize) -> Option<Range<u64>> {
    let first = unclaimed.first()?;
    let total = unclaimed.iter().map(|range| range.end - range.start).sum();
    let end = first.end.min(first.start.saturating_add(piece_size(total, width)));
    Some(first.start..end)
}

/// Pieces shrink with the remaining bytes, so that all lanes end at about the same time. A single lane takes all.
fn piece_size(left: u64, width: usize) -> u64 {
    if width <= 1 {
        return left;
    }
    (left / (2 * width as u64)).clamp(SMALLEST_PIECE, LARGEST_PIECE)
}

/// Finds the number of lanes beyond which more lanes do not raise the throughput.
#[derive(Debug)]
struct Tuner {
    width: usize,
    is_settled: bool,
    /// Throughput before the last change, in bytes a second.
    before: f64,
    /// When the measurement of this width began, and the number of bytes at that time.
    since: Option<(Instant, u64)>,
}

impl Default for Tuner {
    fn default() -> Self {
        Self {
            width: 1,
            is_settled: false,
            before: 0.0,
            since: None,
        }
    }
}

impl Tuner {
    /// The duration of one measurement.
    const STAGE: Duration = Duration::from_millis(400);
    /// The rate, in bytes a second, from which a second lane is not tried: 2 Gbit/s.
    const FAST_ENOUGH: f64 = 250e6;
    const WORTHWHILE: f64 = 1.2;

    /// Takes the number of bytes that have arrived until `now`, and whether all lanes have begun to receive; returns the new number of
    /// lanes if it changes.
    fn observe(&mut self, now: Instant, bytes: u64, all_flow: bool) -> Option<usize> {
        if self.is_settled {
            return None;
        }
        let Some((began, had)) = self.since else {
            self.since = all_flow.then_some((now, bytes));
            return None;
        };
        let elapsed = now - began;
        if elapsed < Self::STAGE {
            return None;
        }
        let rate = bytes.saturating_sub(had) as f64 / elapsed.as_secs_f64();
        self.since = None;
        if self.width > 1 && rate < self.before * Self::WORTHWHILE {
            self.settle_at(self.width / 2);
            return None;
        }
        self.is_settled = self.width >= MOST_LANES || (self.width == 1 && rate >= Self::FAST_ENOUGH);
        if self.is_settled {
            return None;
        }
        self.before = rate;
        self.width *= 2;
        Some(self.width)
    }

    fn settle_at(&mut self, width: usize) {
        self.width = width.max(1);
        self.is_settled = true;
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Runs a tuner against a link whose throughput depends on the number of lanes.
    fn settle(throughput: impl Fn(usize) -> f64) -> usize {
        let mut tuner = Tuner::default();
        let (mut now, mut bytes) = (Instant::now(), 0.0);
        for _ in 0..200 {
            now += TICK;
            bytes += throughput(tuner.width) * TICK.as_secs_f64();
            tuner.observe(now, bytes as u64, true);
        }
        assert!(tuner.is_settled);
        tuner.width
    }

    #[test]
    fn lanes_are_added_only_while_they_help() {
        assert_eq!(settle(|lanes| 30e6 * lanes as f64), 8);
        assert_eq!(settle(|_| 100e6), 1);
        assert_eq!(settle(|lanes| (30e6 * lanes as f64).min(110e6)), 4);
        assert_eq!(settle(|lanes| 900e6 * lanes as f64), 1);
    }

    #[test]
    fn a_width_is_measured_only_once_all_its_lanes_flow() {
        let mut tuner = Tuner::default();
        let start = Instant::now();
        for tick in 0..50 {
            assert_eq!(tuner.observe(start + TICK * tick, 0, false), None);
        }
        assert!(!tuner.is_settled);
    }

    #[test]
    fn pieces_shrink_towards_the_end() {
        assert_eq!(next_piece(&[10..20, 30..40], 1), Some(10..20));
        let gib = 1024 * MIB;
        let next = |start, end| next_piece(&[start..end, end + 1..end + 1], 8);
        assert_eq!(next(0, gib), Some(0..64 * MIB));
        assert_eq!(next(gib - 160 * MIB, gib), Some(gib - 160 * MIB..gib - 150 * MIB));
        assert_eq!(next(gib - MIB, gib), Some(gib - MIB..gib));
        assert_eq!(next_piece(&[], 8), None);
    }
}
