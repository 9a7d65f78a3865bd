//! Who can connect: the socket's mode and group are what the configuration says. Root only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use support::{Daemon, assert_error, directory_with, parts};

/// A daemon started under `umask`, in a directory that everyone may search.
fn daemon_under_umask(umask: &str, config: &str) -> Daemon {
    let dir = directory_with(config);
    std::fs::copy(env!("CARGO_BIN_EXE_poolctl"), dir.path().join("poolctl")).unwrap();
    let mut daemon = Daemon::launch_after(dir, &format!("umask {umask}"));
    daemon.wait_until_ready();
    daemon
}

#[test]
fn socket_mode_is_the_configured_one_under_every_umask() {
    for umask in ["000", "022", "077", "777"] {
        for mode in ["0600", "0660", "0666"] {
            let daemon = daemon_under_umask(umask, &format!("socket_mode = \"{mode}\"\n"));
            let found = std::fs::metadata(&daemon.socket).unwrap().mode() & 0o777;
            assert_eq!(format!("{found:04o}"), mode, "under umask {umask}");
        }
    }
}

#[test]
fn user_outside_the_group_cannot_connect_and_one_inside_can() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let daemon = daemon_under_umask("022", "socket_mode = \"0660\"\nsocket_group = \"games\"\n");
    let as_user = |gid: u32| {
        let mut command = Command::new(daemon.dir.path().join("poolctl"));
        command.args(["submit", "is_prime", "7"]).env("POOLD_SOCKET", &daemon.socket).uid(65534).gid(gid);
        command.output().unwrap()
    };
    assert_error(&as_user(65534), 3, &["poold.sock", "mode 0660", "group games"]);
    let games = std::fs::metadata(&daemon.socket).unwrap().gid();
    assert_ne!(games, 0);
    assert_eq!(parts(&as_user(games)), (0, "true\n".to_owned(), String::new()));
}
