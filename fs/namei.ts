/**
 * fs/namei.ts - everything about names. Linux: fs/namei.c. Reading order: walk, permission, open,
 * create, remove, rename.
 */
export * from "./namei/permission.ts";
export * from "./namei/walk.ts";
export * from "./namei/open.ts";
export * from "./namei/create.ts";
export * from "./namei/remove.ts";
export * from "./namei/rename.ts";
