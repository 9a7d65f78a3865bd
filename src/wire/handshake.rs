//! The first twelve bytes each way: who speaks, in which versions.
//!
//! Their layout never changes, so that any two versions can tell each other that they do not fit.
//!
//! ```text
//!           0            6      7   8              10             12
//!  hello    │ "poold\0"  │ role │ 0 │ version_min  │ version_max  │
//!  answer   │ "poold\0"  │ verd │ 0 │ version      │ 0            │
//! ```

use super::WireError;

/// Bytes in a hello and in an answer.
pub const HANDSHAKE_BYTES: usize = 12;

/// The oldest version spoken here.
pub const VERSION_MIN: u16 = 1;

/// The newest version spoken here.
pub const VERSION_MAX: u16 = 1;

const MAGIC: [u8; 6] = *b"poold\0";

/// Who opens the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Submits tasks.
    Client,
    /// Runs attempts.
    Worker,
}

/// What the daemon makes of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Frames may follow.
    Accepted,
    /// The first bytes were not a hello.
    NotAHandshake,
    /// There is no version that both speak; the answer carries the newest that the daemon does.
    NoCommonVersion,
    /// This socket is not for that role.
    WrongRole,
    /// As many connections as there may be are open.
    TooManyConnections,
    /// The user may not connect.
    NotAllowed,
    /// As many connections as one user may have are open.
    TooManyOfUser,
}

/// The opening bytes of a client or worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who opens the conversation.
    pub role: Role,
    /// The oldest version it speaks.
    pub version_min: u16,
    /// The newest version it speaks.
    pub version_max: u16,
}

/// The daemon's answer to a [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it makes of it.
    pub verdict: Verdict,
    /// The version that both speak from here on; without one, the newest that the daemon speaks.
    pub version: u16,
}

/// The newest version that is both spoken here and by whoever said `hello`.
pub fn agree_on_version(hello: &Hello) -> Option<u16> {
    let version = hello.version_max.min(VERSION_MAX);
    (version >= hello.version_min && version >= VERSION_MIN).then_some(version)
}

impl Hello {
    /// The hello of this version of the program.
    pub const fn new(role: Role) -> Self {
        Hello { role, version_min: VERSION_MIN, version_max: VERSION_MAX }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let role = match self.role {
            Role::Client => 1,
            Role::Worker => 2,
        };
        layout(role, self.version_min, self.version_max)
    }

    /// The hello at the start of `bytes`; nothing if they end before it does.
    ///
    /// # Errors
    /// [`WireError::NotAHandshake`] as soon as the magic is not there, or all is and the rest is none.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((role, version_min, version_max)) = fields(bytes)? else { return Ok(None) };
        let role = match role {
            1 => Role::Client,
            2 => Role::Worker,
            _ => return Err(WireError::NotAHandshake),
        };
        Ok(Some(Hello { role, version_min, version_max }))
    }
}

impl Answer {
    /// Its bytes.
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let verdict = match self.verdict {
            Verdict::Accepted => 0,
            Verdict::NotAHandshake => 1,
            Verdict::NoCommonVersion => 2,
            Verdict::WrongRole => 3,
            Verdict::TooManyConnections => 4,
            Verdict::NotAllowed => 5,
            Verdict::TooManyOfUser => 6,
        };
        layout(verdict, self.version, 0)
    }

    /// The answer at the start of `bytes`; nothing if they end before it does.
    ///
    /// # Errors
    /// [`WireError::NotAHandshake`] as soon as the magic is not there, or all is and the rest is none.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((verdict, version, _)) = fields(bytes)? else { return Ok(None) };
        let verdict = match verdict {
            0 => Verdict::Accepted,
            1 => Verdict::NotAHandshake,
            2 => Verdict::NoCommonVersion,
            3 => Verdict::WrongRole,
            4 => Verdict::TooManyConnections,
            5 => Verdict::NotAllowed,
            6 => Verdict::TooManyOfUser,
            _ => return Err(WireError::NotAHandshake),
        };
        Ok(Some(Answer { verdict, version }))
    }
}

fn layout(code: u8, first: u16, second: u16) -> [u8; HANDSHAKE_BYTES] {
    let mut bytes = [0; HANDSHAKE_BYTES];
    bytes[..6].copy_from_slice(&MAGIC);
    bytes[6] = code;
    bytes[8..10].copy_from_slice(&first.to_le_bytes());
    bytes[10..].copy_from_slice(&second.to_le_bytes());
    bytes
}

fn fields(bytes: &[u8]) -> Result<Option<(u8, u16, u16)>, WireError> {
    if !bytes.iter().zip(MAGIC).all(|(byte, expected)| *byte == expected) {
        return Err(WireError::NotAHandshake);
    }
    let Some(&[_, _, _, _, _, _, code, zero, a0, a1, b0, b1]) = bytes.first_chunk::<HANDSHAKE_BYTES>() else {
        return Ok(None);
    };
    if zero != 0 {
        return Err(WireError::NotAHandshake);
    }
    Ok(Some((code, u16::from_le_bytes([a0, a1]), u16::from_le_bytes([b0, b1]))))
}
