//! What the log of decisions says of calls for hosted models.

use hyper::StatusCode;

use crate::gateway::reply::Reply;
use crate::router::{DecisionLog, DecisionRecord};

/// The decision for a named model, which is logged when this is dropped, or at the end of the model's stream.
pub(super) struct Asked<'a> {
    log: &'a DecisionLog,
    record: Option<DecisionRecord>,
}

impl<'a> Asked<'a> {
    pub(super) const fn new(log: &'a DecisionLog, record: Option<DecisionRecord>) -> Self {
        Self { log, record }
    }

    /// Logs nothing when this is dropped.
    pub(super) fn replaced(mut self) {
        self.record = None;
    }

    /// Notes that the client gets `reply`.
    pub(super) fn made(mut self, mut reply: Reply) -> Reply {
        if let Some(mut record) = self.record.take() {
            record.status = failure_status(&reply);
            reply.body_mut().decided(self.log, record);
        }
        reply
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.log.record(record);
        }
    }
}

/// The status of `reply`, if it is a failure.
pub(super) fn failure_status(reply: &Reply) -> Option<u16> {
    is_error(reply.status()).then(|| reply.status().as_u16())
}

pub(super) fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}
