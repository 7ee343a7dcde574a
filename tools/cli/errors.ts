/** tools/cli/errors.ts - how the command line says that something is wrong. */

import { is_errno } from "../../kernel/include/errno.ts";

/** A mistake of the user: printed as one line without a stack, exit status 2 unless told. */
export class user_error extends Error {
  override name = "user_error";
  readonly status: number;
  constructor(message: string, status = 2) {
    super(message);
    this.status = status;
  }
}

/** An error whose text is ready, from another thread. */
export class told_error extends Error {
  readonly status: number;
  constructor(text: string, status: number) {
    super(text);
    this.status = status;
  }
}

interface system_error {
  code: string;
  syscall?: string;
  path?: string;
  message: string;
}

/** True for errors of the host or of an emulated system call: their message is for users. */
function is_system_error(err: unknown): err is system_error {
  const e = err as Partial<system_error> | null | undefined;
  return typeof e?.code === "string" && /^E[A-Z0-9]+$/.test(e.code) && e.syscall !== undefined;
}

/** Text for stderr and the exit status. */
export function dress_error(err: unknown): { text: string; status: number } {
  if (err instanceof user_error) return { text: `daxlab: ${err.message}`, status: err.status };
  if (err instanceof told_error) return { text: err.message, status: err.status };
  if (is_system_error(err)) return { text: `daxlab: ${err.message}`, status: 1 };
  if (is_errno(err)) return { text: `daxlab: ${err.code}: the machine did not start`, status: 1 };
  const stack = err instanceof Error ? (err.stack ?? err.message) : String(err);
  return { text: `daxlab: internal error\n${stack}`, status: 70 };
}
