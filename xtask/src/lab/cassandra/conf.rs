//! A node's configuration: small enough for four of them on one machine. What is not said is Cassandra's default.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

/// Modules of Java 17 that Cassandra opens, as its own start script does.
pub(super) const MODULES: [&str; 26] = [
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-exports=java.base/java.lang.ref=ALL-UNNAMED",
    "--add-exports=java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.server=ALL-UNNAMED",
    "--add-exports=java.sql/java.sql=ALL-UNNAMED",
    "--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED",
    "--add-exports=jdk.attach/sun.tools.attach=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.module=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.loader=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.reflect=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.math=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.module=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.util.jar=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
    "--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED",
    "-ea",
];

/// Writes the configuration below `node`. Addresses and directories are the command line's to say: data is below `cassandra.storagedir`.
pub(super) fn write(node: &Path, seeds: [Ipv4Addr; 2]) -> Result<()> {
    let conf = node.join("conf");
    for directory in [&conf, &node.join("tmp")] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let seeds = seeds.map(|seed| seed.to_string()).join(",");
    let yaml = format!(
        "cluster_name: trimtab-lab\nnum_tokens: 8\nallocate_tokens_for_local_replication_factor: 3\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\nendpoint_snitch: GossipingPropertyFileSnitch\n\
         seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    parameters:\n      - seeds: \"{seeds}\"\n\
         storage_port: 7000\nnative_transport_port: 9042\n\
         start_native_transport: true\n\
         commitlog_sync: periodic\ncommitlog_sync_period: 1000ms\ncommitlog_segment_size: 8MiB\n\
         commitlog_total_space: 64MiB\nmemtable_heap_space: 48MiB\nmemtable_offheap_space: 32MiB\n\
         key_cache_size: 2MiB\ncounter_cache_size: 0MiB\nfile_cache_enabled: false\nnetworking_cache_size: 16MiB\n\
         concurrent_reads: 8\nconcurrent_writes: 8\nconcurrent_counter_writes: 2\n\
         concurrent_materialized_view_writes: 2\nconcurrent_compactors: 1\nconcurrent_validations: 1\n\
         native_transport_max_threads: 16\nauto_snapshot: false\nhinted_handoff_enabled: true\nmax_hint_window: 3h\n\
         hints_flush_period: 1000ms\nstream_throughput_outbound: 24MiB/s\n\
         entire_sstable_stream_throughput_outbound: 24MiB/s\n"
    );
    for (name, text) in [
        ("cassandra.yaml", yaml.as_str()),
        ("cassandra-rackdc.properties", "dc=dc1\nrack=rack1\n"),
        ("logback.xml", LOG),
        ("bridge.xml", BRIDGE),
    ] {
        fs::write(conf.join(name), text).with_context(|| format!("writing {}", conf.join(name).display()))?;
    }
    Ok(())
}

/// What may be done over HTTP: read anything, execute what scaling needs; from loopback, by POST.
const BRIDGE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<restrict>\n  \
    <remote><host>127.0.0.0/8</host></remote>\n  <http><method>post</method></http>\n  \
    <commands><command>read</command><command>search</command><command>version</command><command>list</command></commands>\n  \
    <allow>\n    <mbean>\n      <name>org.apache.cassandra.db:type=StorageService</name>\n      \
    <operation>decommission*</operation>\n      <operation>forceKeyspaceCleanup*</operation>\n      \
    <operation>drain*</operation>\n      <operation>effectiveOwnership*</operation>\n      <operation>setStreamThroughputMbitPerSec*</operation>\n      \
    <operation>setEntireSSTableStreamThroughputMebibytesPerSec*</operation>\n    </mbean>\n    \
    <mbean>\n      <name>org.apache.cassandra.db:type=EndpointSnitchInfo</name>\n      \
    <operation>getDatacenter*</operation>\n    </mbean>\n  </allow>\n</restrict>\n";

/// To a file beside the data.
const LOG: &str = "<configuration>\n  <appender name=\"FILE\" class=\"ch.qos.logback.core.FileAppender\">\n    \
    <file>${cassandra.logdir}/system.log</file>\n    \
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %F:%L - %msg%n</pattern></encoder>\n  </appender>\n  \
    <root level=\"INFO\"><appender-ref ref=\"FILE\"/></root>\n</configuration>\n";
