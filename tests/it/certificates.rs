//! Certificates of authorities that only a test trusts.

use tempfile::TempDir;
use tokio::process::Command;

use crate::program::directory;
use crate::python;

/// An authority and a server that has its certificate, in files that are gone with the test.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    /// A new authority, and a certificate of a server that has `names`.
    pub(crate) async fn of(names: &[&str]) -> Self {
        let folder = directory();
        let python = python::with_packages("tls-venv", &["trustme==1.2.1"]).await;
        let made = Command::new(python)
            .args(["-m", "trustme", "--quiet", "--dir"])
            .arg(folder.path())
            .arg("--identities")
            .args(names)
            .status()
            .await;
        assert!(made.expect("it starts").success());
        Self(folder)
    }

    /// What whoever trusts the authority needs.
    pub(crate) fn authority(&self) -> String {
        self.file("client.pem")
    }

    /// What the server shows.
    pub(crate) fn server(&self) -> String {
        self.file("server.pem")
    }

    /// What belongs to that.
    pub(crate) fn key(&self) -> String {
        self.file("server.key")
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}
