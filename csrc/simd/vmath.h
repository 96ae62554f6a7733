#include <math.h>
#define LW(X,T,vec,L,name,fn) static inline vec X##_##name(vec a){ T t[L]; X##_store(t,a); for(int i=0;i<L;i++) t[i]=fn(t[i]); return X##_load(t);}
#define LWS(name) LW(f32,float,vf32,f32_LANES,name,name##f) LW(f64,double,vf64,f64_LANES,name,name)
static inline float sigmoidf(float x){return 1/(1+expf(-x));}
static inline double sigmoid(double x){return 1/(1+exp(-x));}
LWS(exp) LWS(log) LWS(expm1) LWS(log1p) LWS(sin) LWS(cos) LWS(tanh) LWS(erf) LWS(sigmoid)
static inline vf32 f32_pow(vf32 a, vf32 b){ float t[16],u[16]; f32_store(t,a); f32_store(u,b); for(int i=0;i<f32_LANES;i++) t[i]=powf(t[i],u[i]); return f32_load(t);}
static inline vf64 f64_pow(vf64 a, vf64 b){ double t[16],u[16]; f64_store(t,a); f64_store(u,b); for(int i=0;i<f64_LANES;i++) t[i]=pow(t[i],u[i]); return f64_load(t);}
