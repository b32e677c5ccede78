/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel knows of this process and its disk, as metrics.
 * Refuses to count the children of the cage: they are gone before anyone asks.
 */
#pragma once

/* For metrics_collect: the process_* metrics. arg is not used. */
void process_collect(void *arg);
/* For metrics_collect: free space and size of the disk of a folder (arg: its path, a string). */
void process_collect_scratch(void *arg);
