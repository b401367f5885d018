/**
 * Network namespaces that have a name (a file below /run/netns). What is opened in one stays in it
 * for its life; the thread is back where it was before anything else runs.
 */
import { check, close, open, setNamespace } from './syscall.ts'

const cloneNewNet = 0x4000_0000 // CLONE_NEWNET
const readOnlyCloexec = 0x80000

/** Runs `work`, which must not wait, in a network namespace. @throws SystemCallError */
export function inNamespace<T>(path: string, work: () => T): T {
  const own = check('open own namespace', open('/proc/thread-self/ns/net', readOnlyCloexec))
  try {
    const other = check(`open ${path}`, open(path, readOnlyCloexec))
    try {
      check(`setns ${path}`, setNamespace(other, cloneNewNet))
    } finally {
      close(other)
    }
    try {
      return work()
    } finally {
      // Going on in the wrong namespace would be worse than to end.
      check('setns back', setNamespace(own, cloneNewNet))
    }
  } finally {
    close(own)
  }
}
