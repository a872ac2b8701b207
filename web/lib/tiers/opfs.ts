/** Files in the origin's private file system. */

import type { Bytes } from "./source.js";

/** Only workers have it, and only some browsers need it. */
interface SyncFile {
  truncate(size: number): void;
  write(bytes: BufferSource, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** Writes a file so that it has its old content or its new one; a new one that was cut off is empty. */
export async function writeFile(folder: FileSystemDirectoryHandle, name: string, parts: Bytes[]): Promise<void> {
  const handle = await folder.getFileHandle(name, { create: true });
  if (typeof handle.createWritable === "function") {
    const writable = await handle.createWritable();
    try {
      await writable.write(new Blob(parts));
      await writable.close();
    } catch (error) {
      await writable.abort().catch(() => undefined);
      throw error;
    }
    return;
  }
  // Safari before 26. A file that was left half-written does not have its checksum.
  const open = (handle as unknown as { createSyncAccessHandle(): Promise<SyncFile> }).createSyncAccessHandle.bind(handle);
  const file = await open();
  try {
    file.truncate(0);
    let at = 0;
    for (const part of parts) at += file.write(part, { at });
    file.flush();
    if (at !== parts.reduce((sum, part) => sum + part.length, 0)) throw new DOMException("", "QuotaExceededError");
  } finally {
    file.close();
  }
}

/** The content of a file, or `undefined` if it is not there or cannot be read. */
export async function readFile(folder: FileSystemDirectoryHandle, name: string): Promise<Bytes | undefined> {
  try {
    const handle = await folder.getFileHandle(name);
    return new Uint8Array(await (await handle.getFile()).arrayBuffer());
  } catch {
    return undefined;
  }
}

/** Whether a file holds nothing, or is gone. */
export async function isEmpty(handle: FileSystemHandle): Promise<boolean> {
  try {
    return (await (handle as FileSystemFileHandle).getFile()).size === 0;
  } catch {
    return true;
  }
}

export async function readText(folder: FileSystemDirectoryHandle, name: string): Promise<string> {
  return new TextDecoder().decode(await readFile(folder, name));
}

/** The folder, or `undefined` if it is not there. */
export async function findFolder(parent: FileSystemDirectoryHandle, name: string): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    return await parent.getDirectoryHandle(name);
  } catch {
    return undefined;
  }
}
