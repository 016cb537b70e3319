//! Disks that can be full, or mounted read-only.

use std::fs;
use std::process::Command;

use crate::cluster::Store;

/// A small file system in memory, unmounted at the end; none where mounting is not allowed.
pub struct SmallDisk(pub Store);

impl SmallDisk {
    /// Mounts one of 1 MB that the server's user owns.
    pub fn mount() -> Option<SmallDisk> {
        let store = Store::new();
        let owner = fs::metadata(store.path()).expect("the store");
        let options = format!(
            "size=1m,mode=0700,uid={},gid={}",
            std::os::unix::fs::MetadataExt::uid(&owner),
            std::os::unix::fs::MetadataExt::gid(&owner)
        );
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(store.path()).output();
        match output {
            Ok(output) if output.status.success() => Some(SmallDisk(store)),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }

    /// Mounts it again with other options.
    pub fn remount(&self, options: &str) {
        let done =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "remount {options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
