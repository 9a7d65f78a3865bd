//! What a readiness event is about: the meaning of the numbers that the poller hands back.

use std::mem;

use crate::id::{ConnectionId, SlotId};

/// Something that can become ready.
///
/// The order of the variants is the order in which they are served in a turn. A worker's output comes
/// before its page and its socket, so that its lines are taken for the task that printed them; these come
/// before its exit, so that what it reported counts; workers come before clients, so that a result
/// that is there beats a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// One of a worker's output pipes.
    WorkerOutput(SlotId, OutputStream),
    /// A worker has rung for what is on its page.
    WorkerBell(SlotId),
    /// A worker's socket.
    WorkerSocket(SlotId),
    /// A worker's process: ready when it has ended.
    WorkerExit(SlotId),
    /// A client's socket.
    Client(ConnectionId),
    /// The spawner has answered.
    Spawner,
    /// A signal has arrived.
    Signals,
    /// Clients wait to be accepted.
    Listener,
    /// The service manager has room for what it is to be told.
    ServiceManager,
    /// Something is due.
    Alarm,
}

/// What is to be served: each once, and in order. Its memory is used again and again.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// In any order; some more than once.
    noted: Vec<Token>,
    /// Room that was used before.
    spare: Vec<Token>,
}

impl Tokens {
    /// Notes one.
    pub(super) fn insert(&mut self, token: Token) {
        // Much that is done in a row is for the same one.
        if self.noted.last() != Some(&token) {
            self.noted.push(token);
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// All there are, in order; none is left. To be given back, when they have been served.
    pub(super) fn take(&mut self) -> Vec<Token> {
        let mut taken = mem::replace(&mut self.noted, mem::take(&mut self.spare));
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    /// Keeps the room of what was taken.
    pub(super) fn give_back(&mut self, mut taken: Vec<Token>) {
        taken.clear();
        self.spare = taken;
    }
}

impl Extend<Token> for Tokens {
    fn extend<T: IntoIterator<Item = Token>>(&mut self, tokens: T) {
        tokens.into_iter().for_each(|token| self.insert(token));
    }
}

/// The two ways a worker prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// Both.
    pub(super) const ALL: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

    /// The word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        }
    }
}

/// Bits that hold the variant; the rest hold its number.
const VARIANT_BITS: u32 = 4;

impl From<Token> for mio::Token {
    fn from(token: Token) -> mio::Token {
        let (variant, number) = match token {
            Token::WorkerOutput(slot, OutputStream::Stdout) => (0, u64::from(slot.0)),
            Token::WorkerOutput(slot, OutputStream::Stderr) => (1, u64::from(slot.0)),
            Token::WorkerBell(slot) => (2, u64::from(slot.0)),
            Token::WorkerSocket(slot) => (3, u64::from(slot.0)),
            Token::WorkerExit(slot) => (4, u64::from(slot.0)),
            Token::Client(client) => (5, client.0),
            Token::Spawner => (6, 0),
            Token::Signals => (7, 0),
            Token::Listener => (8, 0),
            Token::ServiceManager => (9, 0),
            Token::Alarm => (10, 0),
        };
        mio::Token(((number << VARIANT_BITS) | variant) as usize)
    }
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Token {
        let number = token.0 as u64 >> VARIANT_BITS;
        let slot = SlotId(number as u32);
        match token.0 & ((1 << VARIANT_BITS) - 1) {
            0 => Token::WorkerOutput(slot, OutputStream::Stdout),
            1 => Token::WorkerOutput(slot, OutputStream::Stderr),
            2 => Token::WorkerBell(slot),
            3 => Token::WorkerSocket(slot),
            4 => Token::WorkerExit(slot),
            5 => Token::Client(ConnectionId(number)),
            6 => Token::Spawner,
            7 => Token::Signals,
            8 => Token::Listener,
            9 => Token::ServiceManager,
            _ => Token::Alarm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_poller() {
        let slots = [SlotId(0), SlotId(1), SlotId(u32::MAX)];
        let clients = [ConnectionId(1), ConnectionId(u64::from(u32::MAX) + 1), ConnectionId(1 << 59)];
        let mut tokens =
            vec![Token::Spawner, Token::Signals, Token::Listener, Token::ServiceManager, Token::Alarm];
        tokens.extend(clients.map(Token::Client));
        for slot in slots {
            tokens.extend([Token::WorkerBell(slot), Token::WorkerSocket(slot), Token::WorkerExit(slot)]);
            tokens.extend(OutputStream::ALL.map(|stream| Token::WorkerOutput(slot, stream)));
        }
        for token in tokens {
            assert_eq!(Token::from(mio::Token::from(token)), token);
        }
    }

    #[test]
    fn worker_is_served_output_first_and_exit_last() {
        let slot = SlotId(9);
        let output = Token::WorkerOutput(slot, OutputStream::Stderr);
        assert!(output < Token::WorkerBell(SlotId(0)));
        assert!(Token::WorkerBell(slot) < Token::WorkerSocket(SlotId(0)));
        assert!(Token::WorkerSocket(slot) < Token::WorkerExit(SlotId(0)));
        assert!(Token::WorkerExit(slot) < Token::Client(ConnectionId(0)));
    }

    #[test]
    fn tokens_are_taken_each_once_and_in_order() {
        let (worker, client) = (Token::WorkerSocket(SlotId(7)), Token::Client(ConnectionId(1)));
        let mut tokens = Tokens::default();
        for _ in 0..2 {
            tokens.extend([client, client, worker, client]);
            let taken = tokens.take();
            assert_eq!(taken, [worker, client]);
            assert!(tokens.is_empty());
            // What is noted while those are served is for the next time.
            tokens.insert(worker);
            tokens.give_back(taken);
            assert_eq!(tokens.take(), [worker]);
        }
    }
}
