/**
 * kernel/locking/rtmutex.ts - rt_mutex. Linux: kernel/locking/rtmutex_api.c.
 *
 * To its users a mutex. What makes it one of its own in Linux is that a waiter lends its priority
 * to the owner; tasks have no priorities here, so nothing is left of that.
 */
import { mutex } from "./mutex.ts";

export class rt_mutex extends mutex {}
