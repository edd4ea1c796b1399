//! Where the running kernel's structures keep the fields that the programs read.

use tracer_ebpf::{MISSING, Offsets};

use crate::bpf::btf::{Btf, BtfError};

impl Btf<'_> {
    /// Everything that the programs read, and the bit of `skc_ipv6only`.
    ///
    /// # Errors
    /// [`BtfError::Missing`] names the first member that this kernel does not have and the programs
    /// cannot do without.
    pub fn offsets(&self) -> Result<(Offsets, u32), BtfError> {
        let (sock_ipv6only, v6only_mask) = self.bit("sock.__sk_common.skc_ipv6only")?;
        let inode_in_socket = self
            .offset("socket_alloc.vfs_inode.i_ino")?
            .checked_sub(self.offset("socket_alloc.socket")?)
            .ok_or(BtfError::Malformed("struct socket_alloc"))?;
        // 5.10 has an atomic counter there, set only when it is asked for.
        let has_net_cookie = self.integer_bytes("net.net_cookie") == Some(8);
        let offsets = Offsets {
            sock_family: self.offset("sock.__sk_common.skc_family")?,
            sock_state: self.offset("sock.__sk_common.skc_state")?,
            sock_daddr: self.offset("sock.__sk_common.skc_daddr")?,
            sock_rcv_saddr: self.offset("sock.__sk_common.skc_rcv_saddr")?,
            sock_v6_daddr: self.optional_offset("sock.__sk_common.skc_v6_daddr"),
            sock_v6_rcv_saddr: self.optional_offset("sock.__sk_common.skc_v6_rcv_saddr"),
            sock_dport: self.offset("sock.__sk_common.skc_dport")?,
            sock_num: self.offset("sock.__sk_common.skc_num")?,
            sock_ipv6only,
            sock_bound_dev_if: self.offset("sock.__sk_common.skc_bound_dev_if")?,
            sock_net: self.offset("sock.__sk_common.skc_net.net")?,
            sock_err: self.offset("sock.sk_err")?,
            sock_flags: self.offset("sock.__sk_common.skc_flags")?,
            sock_protocol: self.offset("sock.sk_protocol")?,
            sock_shutdown: self.offset("sock.sk_shutdown")?,
            sock_max_ack_backlog: self.offset("sock.sk_max_ack_backlog")?,
            sock_socket: self.offset("sock.sk_socket")?,
            sock_cookie: self.offset("sock.__sk_common.skc_cookie")?,
            sock_error_queue_prev: self.offset("sock.sk_error_queue.prev")?,
            inet_sport: self.offset("inet_sock.inet_sport")?,
            tcp_snd_una: self.offset("tcp_sock.snd_una")?,
            net_inum: self.offset("net.ns.inum")?,
            net_cookie: if has_net_cookie { self.offset("net.net_cookie")? } else { MISSING },
            socket_inode: inode_in_socket,
            socket_file: self.offset("socket.file")?,
            socket_sk: self.offset("socket.sk")?,
            file_private_data: self.offset("file.private_data")?,
            file_flags: self.offset("file.f_flags")?,
            task_group_leader: self.offset("task_struct.group_leader")?,
            task_comm: self.offset("task_struct.comm")?,
            task_start_boottime: self.offset("task_struct.start_boottime")?,
            task_real_parent: self.offset("task_struct.real_parent")?,
            task_tgid: self.offset("task_struct.tgid")?,
            task_pid: self.offset("task_struct.pid")?,
            task_thread_pid: self.offset("task_struct.thread_pid")?,
            task_flags: self.offset("task_struct.flags")?,
            task_exit_code: self.offset("task_struct.exit_code")?,
            task_min_flt: self.offset("task_struct.min_flt")?,
            task_maj_flt: self.offset("task_struct.maj_flt")?,
            task_signal: self.offset("task_struct.signal")?,
            signal_live: self.offset("signal_struct.live")?,
            task_nsproxy: self.offset("task_struct.nsproxy")?,
            nsproxy_net: self.offset("nsproxy.net_ns")?,
            task_mm: self.offset("task_struct.mm")?,
            mm_exe_file: self.offset("mm_struct.exe_file")?,
            mm_arg_start: self.offset("mm_struct.arg_start")?,
            mm_arg_end: self.offset("mm_struct.arg_end")?,
            file_dentry: self.offset("file.f_path.dentry")?,
            dentry_name: self.offset("dentry.d_name.name")?,
            task_last_child: self.offset("task_struct.children.prev")?,
            task_sibling: self.offset("task_struct.sibling")?,
            task_files: self.offset("task_struct.files")?,
            files_fdt: self.offset("files_struct.fdt")?,
            fdt_fd: self.offset("fdtable.fd")?,
            fdt_max_fds: self.offset("fdtable.max_fds")?,
            pid_level: self.offset("pid.level")?,
            pid_numbers: self.offset("pid.numbers")?,
            upid_size: self.struct_bytes("upid")?,
            skb_head: self.offset("sk_buff.head")?,
            skb_transport_header: self.offset("sk_buff.transport_header")?,
            skb_network_header: self.offset("sk_buff.network_header")?,
            skb_iif: self.offset("sk_buff.skb_iif")?,
            skb_errno: self.offset("sk_buff.cb")? + self.offset("sock_exterr_skb.ee.ee_errno")?,
            skb_origin: self.offset("sk_buff.cb")? + self.offset("sock_exterr_skb.ee.ee_origin")?,
            trace_state_sock: self.optional_offset("trace_event_raw_inet_sock_set_state.skaddr"),
            trace_state_old: self.optional_offset("trace_event_raw_inet_sock_set_state.oldstate"),
            trace_state_new: self.optional_offset("trace_event_raw_inet_sock_set_state.newstate"),
            trace_destroy_sock: self.optional_offset("trace_event_raw_tcp_event_sk.skaddr"),
            trace_fork_child: self.optional_offset("trace_event_raw_sched_process_fork.child_pid"),
        };
        Ok((offsets, v6only_mask))
    }
}
