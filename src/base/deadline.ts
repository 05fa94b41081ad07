/** The longest that one of Node's timers can wait: a longer one would be over at once. */
const longestTimer = 2 ** 31 - 1

/** Calls after so many milliseconds (0: never), also when those are more than a timer can take. Returns what calls it off. */
export function atEnd(milliseconds: number, call: () => void): () => void {
  if (milliseconds <= 0) return () => undefined
  const end = performance.now() + milliseconds
  let timer: NodeJS.Timeout | undefined
  const arm = () => {
    const left = end - performance.now()
    if (left <= 0) call()
    else timer = setTimeout(arm, Math.min(left, longestTimer))
  }
  arm()
  return () => clearTimeout(timer)
}
