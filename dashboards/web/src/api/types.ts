// Names for what the interface says. The types themselves are generated from its description.

import type { components } from './generated';

type Schemas = components['schemas'];

export type Applied = Schemas['Applied'];
export type Change = Schemas['Change'];
export type Cluster = Schemas['Cluster'];
export type Course = Schemas['Course'];
export type Decision = Schemas['Decision'];
export type Decisions = Schemas['Decisions'];
export type Delays = Schemas['Delays'];
export type DrainPreview = Schemas['DrainPreview'];
export type Doctor = Schemas['Doctor'];
export type EndedTask = Schemas['EndedTask'];
export type EndedTasks = Schemas['EndedTasks'];
export type Explanation = Schemas['Explanation'];
export type Headroom = Schemas['Headroom'];
export type History = Schemas['History'];
export type Idle = Schemas['Idle'];
export type IdlePage = Schemas['IdlePage'];
export type Member = Schemas['Member'];
export type Members = Schemas['Members'];
export type Neighbours = Schemas['Neighbours'];
export type Node = Schemas['Node'];
export type Nodes = Schemas['Nodes'];
export type PastChange = Schemas['PastChange'];
export type Pause = Schemas['Pause'];
export type PriceTable = Schemas['PriceTable'];
export type Prices = Schemas['Prices'];
export type Revision = Schemas['Revision'];
export type Revisions = Schemas['Revisions'];
export type Session = Schemas['Session'];
export type Status = Schemas['Status'];
export type Task = Schemas['Task'];
export type Tasks = Schemas['Tasks'];
export type Usage = Schemas['Usage'];
export type Workload = Schemas['Workload'];
export type WhatIf = Schemas['WhatIf'];
export type WhatIfRequest = Schemas['WhatIfRequest'];
export type WhatIfWorkload = Schemas['WhatIfWorkload'];
export type NodesNeeded = Schemas['NodesNeeded'];
export type WorkloadDetail = Schemas['WorkloadDetail'];
export type Workloads = Schemas['Workloads'];
