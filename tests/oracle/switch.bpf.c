// SPDX-License-Identifier: GPL-2.0
// The oracle of the switch program: the same figures, computed by other means. Another language and compiler, offsets relocated by
// libbpf (CO-RE) instead of by our loader, a hash by cgroup id instead of slots, and buckets found by walking the layout's definition.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

typedef __u64 u64;
typedef __u32 u32;
typedef _Bool bool;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node { u64 id; };
struct cgroup { struct kernfs_node *kn; };
struct css_set { struct cgroup *dfl_cgrp; };
struct rq { u64 clock; };
struct cfs_rq { struct rq *rq; };
struct sched_entity { u64 sum_exec_runtime, prev_sum_exec_runtime; struct cfs_rq *cfs_rq; };
struct sched_info { unsigned long long last_queued; };
struct task_struct {
	int pid, prio;
	struct css_set *cgroups;
	struct sched_entity se;
	struct sched_info sched_info;
};
#pragma clang attribute pop

#define BUCKETS 200

struct totals {
	u64 oncpu_ns, delay_ns, switches;
	u32 hist[BUCKETS];
};

struct running {
	u64 task, exec_ns, misses;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct totals);
} totals_by_cgroup SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct running);
} running SEC(".maps");

static const struct totals nothing;

static struct totals *totals_of(struct task_struct *task)
{
	u64 id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	struct totals *totals = bpf_map_lookup_elem(&totals_by_cgroup, &id);
	if (totals)
		return totals;
	bpf_map_update_elem(&totals_by_cgroup, &id, &nothing, BPF_NOEXIST);
	return bpf_map_lookup_elem(&totals_by_cgroup, &id);
}

static u32 bucket(u64 ns)
{
	u64 width = 128, low = 0;
	for (u32 group = 0; group < BUCKETS / 8; group++) {
		if (ns < low + 8 * width)
			return group * 8 + (u32)((ns - low) / width);
		low += 8 * width;
		if (group > 0)
			width *= 2;
	}
	return BUCKETS - 1;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(oracle_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u32 zero = 0;
	struct running *state = bpf_map_lookup_elem(&running, &zero);
	struct totals *totals;

	if (!state)
		return 0;
	if (state->task != (u64)prev) {
		state->misses++;
		// A hidden switch to prev: the fair class knows its slice. Not at the first switch, whose slice began before.
		if (state->task && BPF_CORE_READ(prev, pid) != 0 && BPF_CORE_READ(prev, prio) >= 100) {
			totals = totals_of(prev);
			if (totals)
				totals->oncpu_ns += BPF_CORE_READ(prev, se.sum_exec_runtime) -
						    BPF_CORE_READ(prev, se.prev_sum_exec_runtime);
		}
	} else if (BPF_CORE_READ(prev, pid) != 0) {
		totals = totals_of(prev);
		if (totals)
			totals->oncpu_ns += BPF_CORE_READ(prev, se.sum_exec_runtime) - state->exec_ns;
	}
	state->task = (u64)next;
	state->exec_ns = BPF_CORE_READ(next, se.sum_exec_runtime);

	u64 queued = BPF_CORE_READ(next, sched_info.last_queued);
	if (queued == 0)
		return 0;
	totals = totals_of(next);
	if (totals) {
		u64 delay = BPF_CORE_READ(next, se.cfs_rq, rq, clock) - queued;
		u32 index = bucket(delay);
		totals->delay_ns += delay;
		totals->switches++;
		if (index < BUCKETS)
			totals->hist[index]++;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
