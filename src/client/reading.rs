//! What the daemon says, and to which call: the thread that reads from a connection.
//!
//! ```text
//!   one read of the socket ──> reply, reply, reply … ──> table: calls end ──┐
//!                                                                           v
//!                              those who wait are told, once all of it is taken in
//! ```
//!
//! So who waits for one call after the other is woken once for many of them.

use std::mem;
use std::sync::Arc;
use std::thread;

use super::call::{Audience, Call};
use super::connection::Receiver;
use super::error::Error;
use super::exchange::{Awaited, Exchange, State};
use super::until::lock;
use crate::id::RequestId;
use crate::message::client::ReplyBody;

impl Exchange {
    /// Takes in what the daemon says until the connection ends.
    pub(super) fn read(&self, mut receiver: Receiver) {
        let mut ended = Vec::new();
        let error = loop {
            let heard = self.hear(&mut receiver, &mut ended);
            ended.drain(..).for_each(|call: Arc<Call>| call.tell(&self.callbacks));
            match heard {
                Ok(()) => lock(&self.state).close_if_over(),
                Err(error) => break error,
            }
        };
        self.unlink(&error);
    }

    /// Waits for a reply, and takes in all that came with it. Puts the calls that `ended`, and whose end
    /// somebody is to be told of, behind those there are.
    fn hear(&self, receiver: &mut Receiver, ended: &mut Vec<Arc<Call>>) -> Result<(), Error> {
        let mut next = Some(receiver.receive()?);
        let mut state = lock(&self.state);
        while let Some((id, body)) = next {
            state.take_in(id, body, ended)?;
            next = receiver.receive_next()?;
        }
        Ok(())
    }

    /// The connection has ended: so have all calls on it.
    fn unlink(&self, error: &Error) {
        let mut state = lock(&self.state);
        state.close();
        state.link = None;
        let awaited = mem::take(&mut state.awaited);
        let is_expected = state.shut_down && awaited.is_empty();
        drop(state);

        if !is_expected {
            log::warn!("the connection ended with {} requests unanswered: {error}", awaited.after(0).count());
        }
        for call in awaited.after(0).filter_map(|(_, awaited)| awaited.call()) {
            if call.lose() == Audience::Waits {
                call.tell(&self.callbacks);
            }
        }
        lock(&self.state).readers.remove(&thread::current().id());
        self.quiet.notify_all();
    }
}

impl State {
    fn take_in(&mut self, id: RequestId, body: ReplyBody, ended: &mut Vec<Arc<Call>>) -> Result<(), Error> {
        match (self.awaited.get(id.0), body) {
            (Some(Awaited::Call(call)), ReplyBody::Accepted { task }) => {
                call.accepted(task);
                if call.is_done() {
                    let call = Arc::clone(call);
                    self.ask_to_cancel(&call);
                }
                return Ok(());
            }
            (Some(Awaited::Call(call)), ReplyBody::Started { .. }) => {
                call.started();
                return Ok(());
            }
            (Some(Awaited::End), ReplyBody::Started { .. }) => return Ok(()),
            (Some(Awaited::Call(call)), ReplyBody::Done { task, outcome }) => {
                if call.finish(task, outcome) == Audience::Waits {
                    ended.push(Arc::clone(call));
                }
            }
            (Some(Awaited::Call(call)), ReplyBody::Refused(refusal)) => {
                if call.refuse(refusal) == Audience::Waits {
                    ended.push(Arc::clone(call));
                }
            }
            // That the task is not there any more means that its end was on its way.
            (Some(Awaited::End), ReplyBody::Done { .. })
            | (Some(Awaited::CancelAnswer), ReplyBody::CancelAnswered { .. } | ReplyBody::Refused(_)) => {}
            (_, _) => return Err(Error::UnexpectedReply),
        }
        self.awaited.remove(id.0);
        Ok(())
    }
}
