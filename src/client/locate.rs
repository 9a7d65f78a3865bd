//! Where a daemon may listen: the order in which its sockets are tried.
//!
//! Reads the environment and nothing else; whether anybody listens is found out by connecting.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::limits::SYSTEM_SOCKET;

/// The paths to try, in this order: `named` alone if there is one, else `$POOLD_SOCKET` alone if it is
/// set, else `$XDG_RUNTIME_DIR/poold.sock` and `/run/poold/poold.sock`.
pub fn socket_paths(named: Option<&Path>) -> Vec<PathBuf> {
    paths(named, std::env::var_os("POOLD_SOCKET"), std::env::var_os("XDG_RUNTIME_DIR"))
}

/// As [`socket_paths`], in an environment of the caller's. An empty variable counts as one that is not
/// set, and so does a runtime directory that is not absolute (XDG Base Directory Specification).
fn paths(
    named: Option<&Path>,
    socket: Option<OsString>,
    runtime_directory: Option<OsString>,
) -> Vec<PathBuf> {
    let socket = socket.filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(only) = named.map(Path::to_path_buf).or(socket) {
        return vec![only];
    }
    let user_socket = runtime_directory
        .map(PathBuf::from)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("poold.sock"));
    user_socket.into_iter().chain([PathBuf::from(SYSTEM_SOCKET)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(named: Option<&str>, socket: Option<&str>, runtime_directory: Option<&str>) -> Vec<String> {
        paths(named.map(Path::new), socket.map(OsString::from), runtime_directory.map(OsString::from))
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn paths_named_socket_is_tried_alone() {
        assert_eq!(texts(Some("/a"), Some("/b"), Some("/run/user/1")), ["/a"]);
    }

    #[test]
    fn paths_socket_of_the_environment_is_tried_alone() {
        assert_eq!(texts(None, Some("/b"), Some("/run/user/1")), ["/b"]);
    }

    #[test]
    fn paths_without_a_socket_are_the_users_then_the_systems() {
        assert_eq!(
            texts(None, None, Some("/run/user/1")),
            ["/run/user/1/poold.sock", "/run/poold/poold.sock"]
        );
    }

    #[test]
    fn paths_empty_or_relative_variables_count_as_not_set() {
        assert_eq!(texts(None, Some(""), Some("")), ["/run/poold/poold.sock"]);
        assert_eq!(texts(None, None, Some("run")), ["/run/poold/poold.sock"]);
    }
}
